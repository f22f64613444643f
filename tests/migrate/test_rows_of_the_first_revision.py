"""A database that the first version filled, brought to the newest revision."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskqueue.clock import system_clock
from taskqueue.schema import Task, TaskStatus
from taskqueue.store.pages import Wanted
from taskqueue.store.tasks import open_store
from taskqueue_migrate.runner import MIGRATIONS, is_at_head, upgrade

COLUMNS = (
    "id, payload, status, result, created_at, processed_at, accepted_at, due_at, queued_at, started_at, attempt, "
    "handed_back, worker, error"
)
KEPT = COLUMNS.replace("handed_back", "forgiven")
TIME = 1_700_000_000
MS = TIME * 1000


def _row(number: int, status: str, **values: Any) -> tuple[Any, ...]:
    data = {"text": "ü\0", "nested": [{"n": number}]}
    payload = {"id": f"id-{number}", "action": f"action {number % 2}", "data": data, "created_at": TIME + number}
    row = dict.fromkeys(COLUMNS.split(", ")) | {"attempt": 0, "handed_back": 0, "created_at": TIME + number}
    row |= {"id": f"id-{number}", "payload": json.dumps(payload), "status": status}
    return tuple((row | {"accepted_at": (TIME + number) * 1_000_000} | values).values())


ENDED = {"started_at": MS, "attempt": 3, "handed_back": 1, "worker": "w", "processed_at": TIME + 9}
ROWS = [
    _row(0, "pending", due_at=MS),
    _row(1, "pending", due_at=MS + 10**12, attempt=2, handed_back=1, error="ValueError: no", started_at=MS, worker="w"),
    _row(2, "queued", queued_at=MS),
    _row(3, "running", started_at=MS, attempt=1, worker="w", due_at=MS),
    _row(4, "completed", result='{"output": [1, null]}', **ENDED),
    _row(5, "completed", result="null", **ENDED),
    _row(6, "failed", error="boom", **ENDED),
    _row(7, "cancelled", processed_at=TIME + 9),
]


@pytest.fixture(name="old")
def _old(database: Path, tmp_path: Path) -> Path:
    """A database at revision 0001 with a row in every status."""
    first = tmp_path / "first"
    shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("__pycache__", "000[2-9]*"))
    upgrade(database, migrations=first)
    with closing(sqlite3.connect(database)) as connection, connection:
        marks = ", ".join("?" * len(ROWS[0]))
        connection.executemany(f"INSERT INTO tasks ({COLUMNS}) VALUES ({marks})", ROWS)  # noqa: S608 - of our own making
    assert not is_at_head(database)
    return database


def test_every_row_is_kept_as_it_was(old: Path) -> None:
    """Each value of each row, whatever has been added beside it; the actions can be looked for, and the ends."""
    assert {row[2] for row in ROWS} == set(TaskStatus)

    upgrade(old)

    assert is_at_head(old)
    assert _ask(old, f"SELECT {KEPT} FROM tasks ORDER BY accepted_at") == ROWS  # noqa: S608 - of our own making
    assert _ask(old, "SELECT action FROM tasks ORDER BY accepted_at") == [(f"action {n % 2}",) for n in range(8)]
    assert _ask(old, "SELECT id, ended_at FROM tasks WHERE ended_at IS NOT NULL ORDER BY id") == [
        (f"id-{number}", MS + 9000) for number in (4, 5, 6, 7)
    ]


def test_a_damaged_row_does_not_keep_the_others_from_the_newest_revision(old: Path) -> None:
    """It is kept as it is, without an action."""
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE tasks SET payload = '{' WHERE id = 'id-4'")

    upgrade(old)

    assert is_at_head(old)
    assert _ask(old, "SELECT id, payload FROM tasks WHERE action IS NULL") == [("id-4", "{")]


async def test_every_row_is_served_and_goes_on(old: Path) -> None:
    """The store finds them, lists them by status and by action, and its sweep takes up those that are due."""
    upgrade(old)

    async with open_store(old, system_clock) as store:
        tasks = [await store.find(row[0]) for row in ROWS]
        by_action = (await store.page(Wanted(action="action 1"))).tasks
        by_status = (await store.page(Wanted(frozenset({TaskStatus.COMPLETED})))).tasks
        everything = (await store.page()).tasks
        taken = await store.take_due(lease=8000, max_attempts=5, limit=10)

    assert [_told(task) for task in tasks] == [_expected(row) for row in ROWS]
    assert [task.id for task in by_action] == ["id-7", "id-5", "id-3", "id-1"]
    assert [task.id for task in by_status] == ["id-5", "id-4"]
    assert [task.id for task in everything] == [f"id-{number}" for number in range(7, -1, -1)]
    assert {ready.payload.id for ready in taken.ready} >= {"id-0"}


def _expected(values: tuple[Any, ...]) -> tuple[Any, ...]:
    row = dict(zip(COLUMNS.split(", "), values, strict=True))
    result = None if row["result"] is None else json.loads(row["result"])
    return (
        *(row["id"], json.loads(row["payload"]), row["status"], result),
        *(row["created_at"], row["processed_at"], row["attempt"] - row["handed_back"], row["error"]),
    )


def _told(task: Task | None) -> tuple[Any, ...]:
    assert task
    return (
        *(task.id, task.payload, task.status, task.result),
        *(task.created_at, task.processed_at, task.attempts, task.error),
    )


def _ask(database: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(question).fetchall()
