"""What a sweep does to the store: rows that are due, and rows whose message is lost, become ready to be dispatched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Result, Row, select, update

from taskqueue.schema import TaskPayload, TaskStatus
from taskqueue.store.tables import status_of_row, tasks

WORKER_LOST: Final = "the worker was lost in the last attempt allowed"
MAX_CHARACTERS: Final = 4_000_000
"""Of payloads taken at once: each is many times as large in memory, and a process may have little of it."""

_ROWS_AT_ONCE: Final = 10
_MAY_BE_DUE: Final = (TaskStatus.PENDING, TaskStatus.RUNNING)


@dataclass(frozen=True)
class Due:
    """Asks, at `now`, for up to `limit` due tasks, and moves them on to `lease_until`. Instants in ms."""

    now: int
    lease_until: int
    max_attempts: int
    limit: int


@dataclass(frozen=True)
class Ready:
    """A task to dispatch after `attempt` attempts; as JSON it has about so many characters."""

    payload: TaskPayload
    attempt: int
    characters: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Taken:
    """What a sweep found: tasks that are its to dispatch, and the ids of those that lost their last worker."""

    ready: Sequence[Ready]
    failed: Sequence[str]


def take_due(connection: Connection, items: Sequence[Due]) -> Sequence[Taken]:
    """Takes due tasks, each by one sweep alone; those without an attempt left become `failed`."""
    return [Taken(failed=_fail_spent(connection, item), ready=_take(connection, item)) for item in items]


def _fail_spent(connection: Connection, item: Due) -> list[str]:
    failed = connection.execute(
        update(tasks)
        .where(
            status_of_row == TaskStatus.RUNNING,
            tasks.c.due_at <= item.now,
            tasks.c.attempt - tasks.c.handed_back >= item.max_attempts,
        )
        .values(status=TaskStatus.FAILED, error=WORKER_LOST, due_at=None, processed_at=item.now // 1000)
        .returning(tasks.c.id)
    )
    return [row.id for row in failed]


def _take(connection: Connection, item: Due) -> list[Ready]:
    due = (
        select(tasks.c.id, tasks.c.payload, tasks.c.attempt)
        .where(tasks.c.due_at <= item.now, status_of_row.in_(_MAY_BE_DUE))
        .order_by(tasks.c.due_at)
        .limit(item.limit)
        .with_for_update(skip_locked=True)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    with connection.execute(due) as rows:
        taken = _as_many_as_fit(rows)
    if taken:
        connection.execute(
            update(tasks)
            .where(tasks.c.id.in_([row.id for row in taken]), status_of_row.in_(_MAY_BE_DUE))
            .values(status=TaskStatus.PENDING, due_at=item.lease_until)
        )
    return [Ready(TaskPayload.model_validate_json(row.payload), row.attempt, len(row.payload)) for row in taken]


def _as_many_as_fit(rows: Result[tuple[str, str, int]]) -> list[Row[tuple[str, str, int]]]:
    taken: list[Row[tuple[str, str, int]]] = []
    characters = 0
    for row in rows:
        taken.append(row)
        characters += len(row.payload)
        if characters >= MAX_CHARACTERS:
            break
    return taken


@dataclass(frozen=True)
class Lost:
    """Says, at `now`, that the broker holds no message made before `made_before`. Instants in ms."""

    made_before: int
    now: int
    limit: int


def requeue_lost(connection: Connection, items: Sequence[Lost]) -> Sequence[int]:
    """Makes queued tasks whose message is lost due at once; answers how many."""
    return [_requeue(connection, item) for item in items]


def _requeue(connection: Connection, item: Lost) -> int:
    lost = (
        select(tasks.c.id)
        .where(tasks.c.queued_at < item.made_before, status_of_row == TaskStatus.QUEUED)
        .order_by(tasks.c.queued_at)
        .limit(item.limit)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(lost))
        .values(status=TaskStatus.PENDING, due_at=item.now, queued_at=None)
        .returning(tasks.c.id)
    )
    return len(found.all())


@dataclass(frozen=True)
class Restart:
    """Says, at `now` (ms), that no other process is at work, and that the broker is empty."""

    now: int


def resume(connection: Connection, items: Sequence[Restart]) -> Sequence[int]:
    """Makes every task that is queued or running due at once; answers how many. For embedded mode's start alone."""
    return [_resume(connection, item) for item in items]


def _resume(connection: Connection, item: Restart) -> int:
    queued = update(tasks).where(tasks.c.status == TaskStatus.QUEUED)
    running = update(tasks).where(tasks.c.status == TaskStatus.RUNNING)
    undelivered = connection.execute(
        queued.values(status=TaskStatus.PENDING, due_at=item.now, queued_at=None).returning(tasks.c.id)
    )
    # A running task keeps its status, so that the sweep counts the attempt that the last process cut short.
    interrupted = connection.execute(running.values(due_at=item.now).returning(tasks.c.id))
    return len(undelivered.all()) + len(interrupted.all())
