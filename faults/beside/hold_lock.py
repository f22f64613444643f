"""Run beside the database, with its path: holds the write lock, as a stray process may, until its input ends."""

import sys

try:
    import pysqlite3 as sqlite
except ImportError:
    import sqlite3 as sqlite

connection = sqlite.connect(sys.argv[1], timeout=20, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
