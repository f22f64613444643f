"""Losses: an attempt whose worker was lost is over, and what becomes of its task."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Result, Row, bindparam, func, select, update

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.guards import is_running_as
from taskqueue.store.history import AttemptOutcome, appended, entry
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import tasks

WORKER_LOST: Final = "the worker was lost in the last attempt allowed"

LOSSES_IN_COMPANY: Final = 2
"""After so many losses a task runs alone: if it loses that worker too, nobody else can have been the cause."""

LOST_AT_ONCE: Final = 500

_FIND_LOST = (
    select(
        *(tasks.c.id, tasks.c.attempt, tasks.c.forgiven, tasks.c.lost, tasks.c.alone, tasks.c.max_attempts),
        *(tasks.c.started_at, tasks.c.worker, tasks.c.cancel_requested_at),
    )
    # Few run; by `due_at`, a backlog that the broker does not take would be walked through with the lock held.
    .where(tasks.c.status == TaskStatus.RUNNING, tasks.c.due_at + 0 <= bindparam("now", type_=BigInteger))
    .limit(LOST_AT_ONCE)
)
_ended = Batch("id", "attempt", "status", "error", "due_at", "ended_at", "processed_at", "forgiven", "entry")
_END_LOST = BatchWrite(
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


def end_lost(connection: Connection, now: int, max_attempts: int, silent: frozenset[str] | None) -> Sequence[str]:
    """Ends the attempts whose lease has run out by `now` (ms); answers the ids of the tasks that failed by it.

    Where `now` is in doubt, only the running tasks in `silent` have lost their worker.
    """
    query = _FIND_LOST
    if silent is not None:
        query = query.where(tasks.c.id.in_(sorted(silent)[:LOST_AT_ONCE]))
    found: Result[Any] = connection.execute(query, {"now": now})
    lost = [(row, _after_loss(row, max_attempts)) for row in found]
    if lost:
        _END_LOST.run(connection, (_lost_row(row, status, now) for row, status in lost))
        note(connection, (Change(row.id, status, row.attempt, now) for row, status in lost))
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
