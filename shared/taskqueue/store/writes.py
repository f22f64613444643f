"""Every change of a task, as a batched write: a guarded transition that answers what came of each item.

A guard is the WHERE of an UPDATE: the statuses that may become the new one, and the attempt that is the fencing token.
The transaction holds the write lock, so what a SELECT sees here cannot change before the UPDATE that follows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby

from sqlalchemy import ColumnElement, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import TaskPayload, TaskStatus, sources_of
from taskqueue.store.tables import tasks


def may_become(target: TaskStatus) -> ColumnElement[bool]:
    """The guard of a transition: the row has a status from which it may go to `target`."""
    return or_(*(tasks.c.status == source for source in sources_of(target)))


@dataclass(frozen=True)
class NewTask:
    """A task to record. `accepted_at` is in microseconds, `due_at` in milliseconds."""

    payload: TaskPayload
    accepted_at: int
    due_at: int


async def add(connection: AsyncConnection, items: Sequence[NewTask]) -> Sequence[None]:
    """Records new tasks as `pending`."""
    rows = [_new_row(item.payload, item.accepted_at) | {"due_at": item.due_at} for item in items]
    await connection.execute(insert(tasks), rows)
    return [None] * len(items)


def _new_row(payload: TaskPayload, accepted_at: int) -> dict[str, object]:
    return {
        "id": payload.id,
        "payload": payload.model_dump_json(),
        "created_at": payload.created_at,
        "accepted_at": accepted_at,
    }


@dataclass(frozen=True)
class Dispatched:
    """A message that the broker has confirmed: made at `dispatched_at` (ms), after `attempt` attempts."""

    id: str
    attempt: int
    dispatched_at: int


_MARK_QUEUED = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("of_id"),
        tasks.c.attempt == bindparam("of_attempt"),
        may_become(TaskStatus.QUEUED),
    )
    .values(status=TaskStatus.QUEUED, due_at=None, queued_at=bindparam("new_queued_at"))
)


async def mark_queued(connection: AsyncConnection, items: Sequence[Dispatched]) -> Sequence[None]:
    """Notes what the broker holds now, where no worker was faster."""
    rows = [{"of_id": item.id, "of_attempt": item.attempt, "new_queued_at": item.dispatched_at} for item in items]
    await connection.execute(_MARK_QUEUED, rows)
    return [None] * len(items)


@dataclass(frozen=True)
class Claim:
    """A worker's wish to begin, at `now`, the attempt that follows `attempt`. Instants in ms, `accepted_at` in µs.

    Where that attempt is already running, the message was delivered twice, and its first worker may be dead: that
    worker then has until `challenge_until` to renew its lease.
    """

    payload: TaskPayload
    attempt: int
    worker: str
    now: int
    lease_until: int
    challenge_until: int
    accepted_at: int


@dataclass(frozen=True)
class Claimed:
    """An attempt that is the worker's. `attempt` is its number, from 1, and its fencing token."""

    payload: TaskPayload
    attempt: int
    handed_back: int


class NotClaimed(Enum):
    """Why an attempt is not the worker's."""

    RUNNING = auto()
    SUPERSEDED = auto()


async def claim(connection: AsyncConnection, items: Sequence[Claim]) -> Sequence[Claimed | NotClaimed]:
    """Begins attempts. A task that nobody has recorded, from another producer, is recorded here."""
    begun: dict[tuple[str, int, str], Claimed] = {}
    for (attempt, worker), group in groupby(sorted(items, key=_attempt_and_worker), key=_attempt_and_worker):
        for claimed in await _begin_attempts(connection, attempt, list(group)):
            begun[claimed.payload.id, attempt, worker] = claimed
    # Two items may be the same message, delivered twice: the first has the attempt.
    answers = [begun.pop((item.payload.id, item.attempt, item.worker), None) for item in items]
    if all(answers):
        return [answer for answer in answers if answer]
    known = await _standing(connection, items)
    return [
        answer or await _begin_unknown(connection, item, known) for item, answer in zip(items, answers, strict=True)
    ]


def _attempt_and_worker(item: Claim) -> tuple[int, str]:
    return item.attempt, item.worker


async def _begin_attempts(connection: AsyncConnection, attempt: int, items: Sequence[Claim]) -> Sequence[Claimed]:
    rows = await connection.execute(
        update(tasks)
        .where(
            tasks.c.id.in_([item.payload.id for item in items]),
            tasks.c.attempt == attempt,
            may_become(TaskStatus.RUNNING),
        )
        .values(_running(attempt + 1, items[-1]))
        .returning(tasks.c.payload, tasks.c.handed_back)
    )
    return [Claimed(TaskPayload.model_validate_json(row.payload), attempt + 1, row.handed_back) for row in rows]


def _running(attempt: int, item: Claim) -> dict[str, object]:
    return {
        "status": TaskStatus.RUNNING,
        "attempt": attempt,
        "due_at": item.lease_until,
        "queued_at": None,
        "started_at": item.now,
        "worker": item.worker,
    }


async def _standing(connection: AsyncConnection, items: Sequence[Claim]) -> dict[str, tuple[str, int]]:
    ids = [item.payload.id for item in items]
    rows = await connection.execute(select(tasks.c.id, tasks.c.status, tasks.c.attempt).where(tasks.c.id.in_(ids)))
    return {row.id: (row.status, row.attempt) for row in rows}


async def _begin_unknown(
    connection: AsyncConnection, item: Claim, known: dict[str, tuple[str, int]]
) -> Claimed | NotClaimed:
    standing = known.get(item.payload.id)
    if standing is None:
        first = 1
        row = _new_row(item.payload, item.accepted_at) | _running(first, item)
        await connection.execute(insert(tasks), [row])
        known[item.payload.id] = (TaskStatus.RUNNING, first)
        return Claimed(item.payload, first, handed_back=0)
    if standing == (TaskStatus.RUNNING, item.attempt + 1):
        await connection.execute(_CHALLENGE, [{"of_id": item.payload.id, "until": item.challenge_until}])
        return NotClaimed.RUNNING
    return NotClaimed.SUPERSEDED


_CHALLENGE = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("of_id"),
        tasks.c.status == TaskStatus.RUNNING,
        tasks.c.due_at > bindparam("until"),
    )
    .values(due_at=bindparam("until"))
)


@dataclass(frozen=True)
class Settlement:
    """What came of an attempt. `due_at` (ms) where it goes back to `pending`, `processed_at` (s) where it is final."""

    id: str
    attempt: int
    status: TaskStatus
    result: str | None = None
    error: str | None = None
    due_at: int | None = None
    processed_at: int | None = None
    handed_back: bool = False


_SETTLE = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("of_id"),
        tasks.c.attempt == bindparam("of_attempt"),
        tasks.c.status == TaskStatus.RUNNING,
    )
    .values(
        status=bindparam("new_status"),
        result=bindparam("new_result"),
        error=bindparam("new_error"),
        due_at=bindparam("new_due_at"),
        processed_at=bindparam("new_processed_at"),
        handed_back=tasks.c.handed_back + bindparam("more_handed_back"),
    )
)


async def settle(connection: AsyncConnection, items: Sequence[Settlement]) -> Sequence[bool]:
    """Records outcomes; False where the attempt is no longer the current one, and nothing was recorded."""
    held = await _held(connection, [(item.id, item.attempt) for item in items])
    recorded = []
    for item in items:
        recorded.append((item.id, item.attempt) in held)
        held.discard((item.id, item.attempt))  # of two outcomes of one attempt, the first counts
    rows = [_settled(item) for item, is_first in zip(items, recorded, strict=True) if is_first]
    if rows:
        await connection.execute(_SETTLE, rows)
    return recorded


def _settled(item: Settlement) -> dict[str, object]:
    return {
        "of_id": item.id,
        "of_attempt": item.attempt,
        "new_status": item.status,
        "new_result": item.result,
        "new_error": item.error,
        "new_due_at": item.due_at,
        "new_processed_at": item.processed_at,
        "more_handed_back": int(item.handed_back),
    }


@dataclass(frozen=True)
class Lease:
    """A running attempt whose worker is alive, and keeps it until `until` (ms) at least."""

    id: str
    attempt: int
    until: int


_RENEW = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("of_id"),
        tasks.c.attempt == bindparam("of_attempt"),
        tasks.c.status == TaskStatus.RUNNING,
    )
    .values(due_at=bindparam("until"))
)


async def renew(connection: AsyncConnection, items: Sequence[Lease]) -> Sequence[bool]:
    """Extends leases; False where the attempt is no longer the current one."""
    held = await _held(connection, [(item.id, item.attempt) for item in items])
    rows = [
        {"of_id": item.id, "of_attempt": item.attempt, "until": item.until}
        for item in items
        if (item.id, item.attempt) in held
    ]
    if rows:
        await connection.execute(_RENEW, rows)
    return [(item.id, item.attempt) in held for item in items]


async def _held(connection: AsyncConnection, attempts: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    rows = await connection.execute(
        select(tasks.c.id, tasks.c.attempt)
        .where(tasks.c.id.in_([task_id for task_id, _ in attempts]), tasks.c.status == TaskStatus.RUNNING)
        .with_for_update()
    )
    return {(row.id, row.attempt) for row in rows} & set(attempts)
