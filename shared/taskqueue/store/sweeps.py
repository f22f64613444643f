"""What a sweep does to the store: rows that are due, and rows whose message is lost, become ready to be dispatched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Integer, Result, Row, bindparam, func, select, update

from taskqueue import events
from taskqueue.errors import RowDamaged
from taskqueue.schema import NORMAL, TaskMessage, TaskPayload, TaskStatus
from taskqueue.store.expiring import expire
from taskqueue.store.faults import reading
from taskqueue.store.losses import LOSSES_IN_COMPANY, end_lost
from taskqueue.store.tables import status_of_row, tasks

MAX_CHARACTERS: Final = 4_000_000
"""Of payloads taken at once: each is many times as large in memory, and a process may have little of it."""

_ROWS_AT_ONCE: Final = 10


@dataclass(frozen=True)
class Due:
    """Asks, at `now`, for up to `limit` due tasks, and moves them on to `lease_until`. Instants in ms.

    Where `now` is in doubt, only the running tasks in `silent` have lost their worker.
    """

    now: int
    lease_until: int
    max_attempts: int
    limit: int
    silent: frozenset[str] | None = None


@dataclass(frozen=True)
class Ready:
    """A task to dispatch after `attempt` attempts; as JSON it has about so many characters."""

    payload: TaskPayload
    attempt: int
    characters: int = field(default=0, compare=False)
    priority: int = NORMAL
    alone: bool = False


@dataclass(frozen=True)
class Taken:
    """What a sweep found: tasks that are its to dispatch, and the ids of those that lost their last worker."""

    ready: Sequence[Ready]
    failed: Sequence[str]


def take_due(connection: Connection, items: Sequence[Due]) -> Sequence[Taken]:
    """Takes due tasks, each by one sweep alone. Running ones have lost their worker, and that attempt is over."""
    return [
        Taken(failed=end_lost(connection, item.now, item.max_attempts, item.silent), ready=_take(connection, item))
        for item in items
    ]


_now: Final = bindparam("now", type_=BigInteger)

_FIND_DUE = (
    select(
        tasks.c.id,
        tasks.c.payload,
        tasks.c.attempt,
        tasks.c.priority,
        (tasks.c.lost >= LOSSES_IN_COMPANY).label("alone"),
        (func.coalesce(tasks.c.expires_at, _now + 1) <= _now).label("expired"),
    )
    .where(tasks.c.due_at <= _now, status_of_row == TaskStatus.PENDING)
    .order_by(tasks.c.due_at)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True)
    .execution_options(yield_per=_ROWS_AT_ONCE)
)


def _take(connection: Connection, item: Due) -> list[Ready]:
    with connection.execute(_FIND_DUE, {"now": item.now, "limit": item.limit}) as rows:
        found = _as_many_as_fit(rows)
    expired = [row.id for row in found if row.expired]
    if expired:
        expire(connection, expired, item.now)
    taken = [row for row in found if not row.expired]
    # What cannot be read is moved on like the rest: it must not be found first for ever.
    if taken:
        connection.execute(
            update(tasks)
            .where(tasks.c.id.in_([row.id for row in taken]), status_of_row == TaskStatus.PENDING)
            .values(due_at=item.lease_until)
        )
    return [ready for ready in map(_ready, taken) if ready is not None]


def _ready(row: Row[Any]) -> Ready | None:
    """The task that is ready; None where its row is damaged, which must stop no other."""
    try:
        with reading(f"task {row.id}"):
            payload = TaskPayload.model_validate_json(row.payload)
            TaskMessage.of(payload, row.attempt, 0, priority=row.priority)  # what no message can carry
    except RowDamaged as error:
        events.emit(events.ROW_DAMAGED, reason=str(error))
        return None
    return Ready(payload, row.attempt, len(row.payload), row.priority, alone=bool(row.alone))


def _as_many_as_fit(rows: Result[Any]) -> list[Row[Any]]:
    taken: list[Row[Any]] = []
    characters = 0
    for row in rows:
        taken.append(row)
        characters += len(row.payload)
        if characters >= MAX_CHARACTERS:
            break
    return taken


@dataclass(frozen=True)
class Lost:
    """Says, at `now`, that the broker holds no message of this priority made before `made_before`. Instants in ms."""

    priority: int
    made_before: int
    now: int
    limit: int


def requeue_lost(connection: Connection, items: Sequence[Lost]) -> Sequence[int]:
    """Makes queued tasks whose message is lost due at once; answers how many."""
    return [_requeue(connection, item) for item in items]


def _requeue(connection: Connection, item: Lost) -> int:
    lost = (
        select(tasks.c.id)
        .where(
            tasks.c.priority == item.priority,
            tasks.c.queued_at < item.made_before,
            status_of_row == TaskStatus.QUEUED,
        )
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
