"""Claims: a worker begins an attempt, as a batched write that answers what came of each wish."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update

from taskqueue.schema import TaskPayload, TaskStatus, sources_of
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.expiring import expire
from taskqueue.store.guards import is_of, may_become
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import status_of_row, tasks
from taskqueue.store.tallies import ACCEPTED, count


@dataclass(frozen=True)
class Claim:
    """A worker's wish to begin the attempt that follows `attempt`, under a lease of so many ms. `accepted_at` is in µs.

    Where that attempt is already running, the message was delivered twice, and its first worker may be dead: that
    worker then has `challenge` ms to renew its lease. `timeout` (ms) and `max_attempts` are the action's, for a task
    that does not say. A task that was `recorded` once, and is not there, was deleted.
    """

    payload: TaskPayload
    attempt: int
    worker: str
    lease: int
    challenge: int
    accepted_at: int
    timeout: int | None = None
    max_attempts: int | None = None
    alone: bool = False
    recorded: bool = False


@dataclass(frozen=True)
class Claimed:
    """An attempt that is the worker's. `attempt` is its number, from 1, and its fencing token.

    `forgiven` attempts do not count towards `max_attempts`. `started_at` and `timeout` are in milliseconds.
    """

    payload: TaskPayload
    attempt: int
    forgiven: int = 0
    started_at: int = field(default=0, compare=False)
    worker: str = field(default="", compare=False)
    timeout: int | None = None
    max_attempts: int | None = None
    traceparent: str | None = None


class NotClaimed(Enum):
    """Why an attempt is not the worker's."""

    RUNNING = auto()
    SUPERSEDED = auto()
    EXPIRED = auto()


_claims = Batch("id", "attempt", "worker", "now", "lease_until", "timeout", "max_attempts", "alone")
_BEGIN_ATTEMPTS = BatchWrite(
    update(tasks)
    .where(
        is_of(_claims),
        may_become(TaskStatus.RUNNING),
        or_(tasks.c.expires_at.is_(None), tasks.c.expires_at > _claims["now"]),
    )
    .values(
        status=TaskStatus.RUNNING,
        attempt=tasks.c.attempt + 1,
        due_at=_claims["lease_until"],
        queued_at=None,
        started_at=_claims["now"],
        worker=_claims["worker"],
        timeout=func.coalesce(tasks.c.timeout, _claims["timeout"]),
        max_attempts=func.coalesce(tasks.c.max_attempts, _claims["max_attempts"]),
        alone=_claims["alone"],
    )
    .returning(
        tasks.c.payload,
        tasks.c.attempt,
        tasks.c.forgiven,
        tasks.c.started_at,
        tasks.c.worker,
        tasks.c.timeout,
        tasks.c.max_attempts,
        tasks.c.traceparent,
    )
)


def claim(connection: Connection, items: Sequence[Claim], now: int) -> Sequence[Claimed | NotClaimed]:
    """Begins attempts at `now` (ms). A task that nobody has recorded, from another producer, is recorded here."""
    rows = _BEGIN_ATTEMPTS.run(connection, (_claim_row(item, now) for item in items))
    claimed = [_claimed(row) for row in rows]
    begun = {(each.payload.id, each.attempt - 1): each for each in claimed}
    # Two items may be the same message, delivered twice: the first has the attempt.
    answers = [begun.pop((item.payload.id, item.attempt), None) for item in items]
    missed = [item for item, answer in zip(items, answers, strict=True) if answer is None]
    reasons = iter(list(_explain(connection, missed, now)) if missed else ())
    explained = [next(reasons) if answer is None else answer for answer in answers]
    note(connection, (_begun(answer) for answer in explained if isinstance(answer, Claimed)))
    return explained


def _claim_row(item: Claim, now: int) -> tuple[object, ...]:
    return (
        *(item.payload.id, item.attempt, item.worker, now, now + item.lease),
        *(item.timeout, item.max_attempts, int(item.alone)),
    )


def _claimed(row: Any) -> Claimed:
    return Claimed(
        TaskPayload.model_validate_json(row.payload),
        row.attempt,
        row.forgiven,
        row.started_at,
        row.worker,
        row.timeout,
        row.max_attempts,
        row.traceparent,
    )


def _begun(claimed: Claimed) -> Change:
    return Change(claimed.payload.id, TaskStatus.RUNNING, claimed.attempt, claimed.started_at)


def _explain(connection: Connection, items: Sequence[Claim], now: int) -> Iterable[Claimed | NotClaimed]:
    ids = [item.payload.id for item in items]
    rows = connection.execute(select(tasks.c.id, tasks.c.status, tasks.c.attempt).where(tasks.c.id.in_(ids)))
    known = {row.id: (row.status, row.attempt) for row in rows}
    for item in items:
        standing = known.get(item.payload.id)
        if standing is None and item.recorded:
            yield NotClaimed.SUPERSEDED
        elif standing is None:
            known[item.payload.id] = (TaskStatus.RUNNING, 1)
            yield _record_and_begin(connection, item, now)
        elif standing == (TaskStatus.RUNNING, item.attempt + 1):
            _challenge(connection, item.payload.id, now + item.challenge)
            yield NotClaimed.RUNNING
        elif standing[0] in sources_of(TaskStatus.RUNNING) and standing[1] == item.attempt:
            # All that the guard asks for but one: it has expired.
            expire(connection, [item.payload.id], now)
            yield NotClaimed.EXPIRED
        else:
            yield NotClaimed.SUPERSEDED


def _record_and_begin(connection: Connection, item: Claim, now: int) -> Claimed:
    first = Claimed(item.payload, 1, 0, now, item.worker, item.timeout, item.max_attempts)
    row = insert(tasks).values(
        id=item.payload.id,
        payload=item.payload.model_dump_json(),
        status=TaskStatus.RUNNING,
        created_at=item.payload.created_at,
        accepted_at=item.accepted_at,
        due_at=now + item.lease,
        started_at=now,
        attempt=first.attempt,
        worker=item.worker,
        action=item.payload.action,
        timeout=item.timeout,
        max_attempts=item.max_attempts,
        alone=int(item.alone),
    )
    connection.execute(row)
    count(connection, ACCEPTED, 1)
    return first


def _challenge(connection: Connection, task_id: str, until: int) -> None:
    running = update(tasks).where(tasks.c.id == task_id, status_of_row == TaskStatus.RUNNING)
    connection.execute(running.where(tasks.c.due_at > until).values(due_at=until))
