"""The limit of the store: rows per second by rows in a commit, bare and through our group commit; JSON to stdout."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import uvloop

from taskqueue.clock import system_clock
from taskqueue.requests import TaskRequest
from taskqueue.schema import TaskPayload
from taskqueue.store.sqlite import use_bundled_sqlite
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue_migrate.runner import upgrade

SIZES: Final = (1, 10, 32, 100, 1000)
INSERT: Final = "INSERT INTO tasks (id, payload, created_at, accepted_at, due_at) VALUES (?, ?, ?, ?, ?)"


def main() -> None:
    """Measures in the folder that the first argument says, for so many seconds each as the second says."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    measured: dict[str, dict[str, float]] = {}
    for synchronous in ("FULL", "NORMAL"):
        database = _migrated(folder / f"{synchronous}.db")
        bare = {str(size): _bare(database, synchronous, size, seconds) for size in SIZES}
        measured[f"sqlite3 executemany, {synchronous}"] = bare
    ours = uvloop.run(_ours(_migrated(folder / "ours.db"), seconds))
    print(json.dumps(measured | {"our store, FULL": ours}))


def _migrated(database: Path) -> Path:
    upgrade(database)
    return database


def _bare(database: Path, synchronous: str, size: int, seconds: float) -> float:
    use_bundled_sqlite()
    connection = sys.modules["sqlite3"].connect(database, isolation_level=None)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    rows, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, [_row() for _ in range(size)])
        connection.execute("COMMIT")
        rows += size
    took = time.monotonic() - began
    connection.close()
    return rows / took


def _row() -> tuple[Any, ...]:
    payload = _payload()
    return payload.id, payload.model_dump_json(), payload.created_at, time.time_ns() // 1000, time.time_ns() // 10**6


def _payload() -> TaskPayload:
    request = TaskRequest(action="uppercase", data={"text": f"to be or not to be {uuid4()}"})
    return request.payload(created_at=int(time.time()))


async def _ours(database: Path, seconds: float) -> dict[str, float]:
    async with open_store(database, system_clock) as store:
        return {str(callers): await _add_by(store, callers, seconds) for callers in SIZES}


async def _add_by(store: TaskStore, callers: int, seconds: float) -> float:
    """So many callers at once, each with its next task when the last one is on disk."""
    rows, began = 0, time.monotonic()

    async def add_again_and_again() -> None:
        nonlocal rows
        while time.monotonic() < began + seconds:
            await store.add(_payload(), due_at=system_clock() + 60_000)
            rows += 1

    await asyncio.gather(*(add_again_and_again() for _ in range(callers)))
    return rows / (time.monotonic() - began)


if __name__ == "__main__":
    main()
