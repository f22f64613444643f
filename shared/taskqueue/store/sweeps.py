"""What a sweep does to the store: rows that are due, and rows whose message is lost, become ready to be dispatched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Integer, Result, Row, bindparam, func, select, update

from taskqueue import events
from taskqueue.errors import RowDamaged
from taskqueue.schema import NORMAL, TaskMessage, TaskPayload, TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.expiring import expire
from taskqueue.store.faults import reading
from taskqueue.store.guards import is_running_as
from taskqueue.store.history import AttemptOutcome, appended, entry
from taskqueue.store.tables import status_of_row, tasks

WORKER_LOST: Final = "the worker was lost in the last attempt allowed"
MAX_CHARACTERS: Final = 4_000_000
"""Of payloads taken at once: each is many times as large in memory, and a process may have little of it."""

LOSSES_IN_COMPANY: Final = 2
"""After so many losses a task runs alone: if it loses that worker too, nobody else can have been the cause."""

LOST_AT_ONCE: Final = 500
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
    return [Taken(failed=_end_lost(connection, item), ready=_take(connection, item)) for item in items]


_now: Final = bindparam("now", type_=BigInteger)

_FIND_LOST = (
    select(
        *(tasks.c.id, tasks.c.attempt, tasks.c.forgiven, tasks.c.lost, tasks.c.alone, tasks.c.max_attempts),
        *(tasks.c.started_at, tasks.c.worker, tasks.c.cancel_requested_at),
    )
    # Few run; by `due_at`, a backlog that the broker does not take would be walked through with the lock held.
    .where(tasks.c.status == TaskStatus.RUNNING, tasks.c.due_at + 0 <= _now)
    .limit(LOST_AT_ONCE)
)
_ended = Batch("id", "attempt", "status", "error", "due_at", "ended_at", "processed_at", "forgiven", "entry")
_END_LOST = (
    update(tasks)
    .where(is_running_as(_ended))
    .values(
        status=_ended["status"],
        error=func.coalesce(_ended["error"], tasks.c.error),
        due_at=_ended["due_at"],
        ended_at=_ended["ended_at"],
        processed_at=_ended["processed_at"],
        forgiven=tasks.c.forgiven + _ended["forgiven"],
        lost=tasks.c.lost + 1,
        history=appended(_ended["entry"]),
        cancel_requested_at=None,
    )
)


def _end_lost(connection: Connection, item: Due) -> list[str]:
    """Ends the attempts whose lease ran out; answers the tasks that failed by it."""
    query = _FIND_LOST
    if item.silent is not None:
        query = query.where(tasks.c.id.in_(sorted(item.silent)[:LOST_AT_ONCE]))
    found: Result[Any] = connection.execute(query, {"now": item.now})
    lost = [(row, _after_loss(row, item.max_attempts)) for row in found]
    if lost:
        connection.execute(_END_LOST, Batch.of(_lost_row(row, status, item.now) for row, status in lost))
        note(connection, (Change(row.id, status, row.attempt, item.now) for row, status in lost))
    return [row.id for row, status in lost if status is TaskStatus.FAILED]


def _after_loss(row: Row[Any], max_attempts: int) -> TaskStatus:
    """What becomes of a task that lost its worker."""
    if row.cancel_requested_at is not None:
        return TaskStatus.CANCELLED
    counted = row.attempt - row.forgiven - _is_forgiven(row)
    spent = counted >= (row.max_attempts or max_attempts)
    return TaskStatus.FAILED if spent else TaskStatus.PENDING


def _is_forgiven(row: Row[Any]) -> bool:
    """Whether a neighbour may have brought the worker down. Lost often enough, a task must show it by running alone."""
    return not row.alone and row.lost < LOSSES_IN_COMPANY


def _lost_row(row: Row[Any], status: TaskStatus, now: int) -> tuple[object, ...]:
    waits = status is TaskStatus.PENDING
    record = entry(
        row.attempt,
        started_at=row.started_at,
        ended_at=now,
        worker=row.worker,
        outcome=AttemptOutcome.LOST,
        error=None,
    )
    return (
        *(row.id, row.attempt, status, WORKER_LOST if status is TaskStatus.FAILED else None),
        *(now if waits else None, None if waits else now, None if waits else now // 1000),
        *(int(_is_forgiven(row)), record),
    )


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
