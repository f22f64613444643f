"""Run beside the database, with its path: prints as JSON what is in it, read without any code of the services'."""

import json
import sys

try:
    import pysqlite3 as sqlite
except ImportError:
    import sqlite3 as sqlite

QUERIES = {
    "integrity": "PRAGMA integrity_check",
    "rows": "SELECT id, status, attempt, tags FROM tasks",
    "finals": (
        "SELECT task_id, count(*) FROM changes WHERE status IN ('completed', 'failed', 'cancelled') GROUP BY task_id"
    ),
    "wrongly_final": (
        "SELECT id FROM tasks WHERE status IN ('completed', 'failed', 'cancelled')"
        " AND (due_at IS NOT NULL OR queued_at IS NOT NULL OR ended_at IS NULL)"
    ),
}

connection = sqlite.connect(sys.argv[1], timeout=20)
connection.execute("PRAGMA query_only = ON")
json.dump({name: connection.execute(query).fetchall() for name, query in QUERIES.items()}, sys.stdout)
