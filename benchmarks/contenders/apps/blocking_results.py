"""Results kept by code that blocks: a connection for each thread of each process."""

import sqlite3
import threading
from typing import Any

from benchmarks.contenders.apps.work import BUSY_TIMEOUT_SECONDS, RECORD, RESULTS, SYNCHRONOUS, row

_of_this_thread = threading.local()


def record(task_id: str, result: dict[str, Any]) -> None:
    """Keeps the result; it is committed when this returns."""
    with _connection() as connection:
        connection.execute(RECORD, row(task_id, result))


def _connection() -> sqlite3.Connection:
    if not hasattr(_of_this_thread, "connection"):
        _of_this_thread.connection = sqlite3.connect(RESULTS, timeout=BUSY_TIMEOUT_SECONDS)
        _of_this_thread.connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection: sqlite3.Connection = _of_this_thread.connection
    return connection
