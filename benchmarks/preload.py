"""Rows in our file that nobody had to wait for: written at once, while no process has the file open."""

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import UUID

ENDS: Final = ("failed", "cancelled", *["completed"] * 8)
"""Enough of each in a thousand rows for a page of a hundred."""

_COLUMNS: Final = "id, payload, status, result, created_at, processed_at, accepted_at, attempt, queued_at"
_INSERT: Final = f"INSERT INTO tasks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - all constants


def preload_finished(database: Path, count: int) -> float:
    """So many final rows, one in ten of them `failed` and one `cancelled`; answers the file's bytes for each."""
    _insert(database, (_finished(number) for number in range(count)))
    return database.stat().st_size / count


def preload_queued(database: Path, count: int) -> None:
    """So many rows as an embedded process leaves them that was ended at the wrong moment."""
    _insert(database, (_queued() for _ in range(count)))


def _insert(database: Path, rows: Iterator[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(_INSERT, rows)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _finished(number: int) -> tuple[Any, ...]:
    task_id, payload, now = _new()
    status = ENDS[number % len(ENDS)]
    return task_id, payload, status, '{"output":"TO BE OR NOT TO BE"}', now, now, now * 10**6 - 10**12 + number, 1, None


def _queued() -> tuple[Any, ...]:
    task_id, payload, now = _new()
    return task_id, payload, "queued", None, now, None, time.time_ns() // 1000, 0, now * 1000


def _new() -> tuple[str, str, int]:
    now = int(time.time())
    task_id = str(UUID(int=random.getrandbits(128), version=4))
    data = {"text": "to be or not to be"}
    return task_id, json.dumps({"id": task_id, "action": "uppercase", "data": data, "created_at": now}), now
