"""Every change of a task, as a batched write: a guarded transition that answers what came of each item.

A guard is the WHERE of an UPDATE: the statuses that may become the new one, and the attempt that is the fencing token.
The transaction holds the write lock, so what one statement sees here cannot change before the next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import ColumnElement, Connection, and_, case, insert, or_, select, update

from taskqueue.schema import TaskPayload, TaskStatus, sources_of
from taskqueue.store.batch import Batch
from taskqueue.store.tables import status_of_row, tasks


def _may_become(target: TaskStatus) -> ColumnElement[bool]:
    """The guard of a transition: the row has a status from which it may go to `target`."""
    return or_(*(status_of_row == source for source in sources_of(target)))


def _is_of(batch: Batch) -> ColumnElement[bool]:
    """The row is one of the batch, and still at its attempt."""
    return and_(tasks.c.id == batch["id"], tasks.c.attempt == batch["attempt"])


@dataclass(frozen=True)
class NewTask:
    """A task to record. `accepted_at` is in microseconds, `due_at` in milliseconds."""

    payload: TaskPayload
    accepted_at: int
    due_at: int


_NEW = ("id", "payload", "created_at", "accepted_at", "due_at")
_new = Batch(*_NEW)
_ADD = insert(tasks).from_select(_NEW, select(*(_new[column] for column in _NEW)).select_from(_new.table))


def add(connection: Connection, items: Sequence[NewTask]) -> Sequence[None]:
    """Records new tasks as `pending`."""
    rows = [
        (item.payload.id, item.payload.model_dump_json(), item.payload.created_at, item.accepted_at, item.due_at)
        for item in items
    ]
    connection.execute(_ADD, Batch.of(rows))
    return [None] * len(items)


@dataclass(frozen=True)
class Dispatched:
    """A message that the broker has confirmed: made at `dispatched_at` (ms), after `attempt` attempts."""

    id: str
    attempt: int
    dispatched_at: int


_dispatched = Batch("id", "attempt", "dispatched_at")
_MARK_QUEUED = (
    update(tasks)
    .where(_is_of(_dispatched), _may_become(TaskStatus.QUEUED))
    .values(status=TaskStatus.QUEUED, due_at=None, queued_at=_dispatched["dispatched_at"])
)


def mark_queued(connection: Connection, items: Sequence[Dispatched]) -> Sequence[None]:
    """Notes what the broker holds now, where no worker was faster."""
    connection.execute(_MARK_QUEUED, Batch.of((item.id, item.attempt, item.dispatched_at) for item in items))
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


_claims = Batch("id", "attempt", "worker", "now", "lease_until")
_BEGIN_ATTEMPTS = (
    update(tasks)
    .where(_is_of(_claims), _may_become(TaskStatus.RUNNING))
    .values(
        status=TaskStatus.RUNNING,
        attempt=tasks.c.attempt + 1,
        due_at=_claims["lease_until"],
        queued_at=None,
        started_at=_claims["now"],
        worker=_claims["worker"],
    )
    .returning(tasks.c.payload, tasks.c.attempt, tasks.c.handed_back)
)


def claim(connection: Connection, items: Sequence[Claim]) -> Sequence[Claimed | NotClaimed]:
    """Begins attempts. A task that nobody has recorded, from another producer, is recorded here."""
    rows = connection.execute(
        _BEGIN_ATTEMPTS,
        Batch.of((item.payload.id, item.attempt, item.worker, item.now, item.lease_until) for item in items),
    )
    claimed = [Claimed(TaskPayload.model_validate_json(row.payload), row.attempt, row.handed_back) for row in rows]
    begun = {(each.payload.id, each.attempt - 1): each for each in claimed}
    # Two items may be the same message, delivered twice: the first has the attempt.
    answers = [begun.pop((item.payload.id, item.attempt), None) for item in items]
    missed = [item for item, answer in zip(items, answers, strict=True) if answer is None]
    reasons = iter(_explain(connection, missed) if missed else ())
    return [next(reasons) if answer is None else answer for answer in answers]


def _explain(connection: Connection, items: Sequence[Claim]) -> Iterable[Claimed | NotClaimed]:
    ids = [item.payload.id for item in items]
    rows = connection.execute(select(tasks.c.id, tasks.c.status, tasks.c.attempt).where(tasks.c.id.in_(ids)))
    known = {row.id: (row.status, row.attempt) for row in rows}
    for item in items:
        standing = known.get(item.payload.id)
        if standing is None:
            known[item.payload.id] = (TaskStatus.RUNNING, 1)
            yield _record_and_begin(connection, item)
        elif standing == (TaskStatus.RUNNING, item.attempt + 1):
            _challenge(connection, item)
            yield NotClaimed.RUNNING
        else:
            yield NotClaimed.SUPERSEDED


def _record_and_begin(connection: Connection, item: Claim) -> Claimed:
    first = Claimed(item.payload, attempt=1, handed_back=0)
    row = insert(tasks).values(
        id=item.payload.id,
        payload=item.payload.model_dump_json(),
        status=TaskStatus.RUNNING,
        created_at=item.payload.created_at,
        accepted_at=item.accepted_at,
        due_at=item.lease_until,
        started_at=item.now,
        attempt=first.attempt,
        worker=item.worker,
    )
    connection.execute(row)
    return first


def _challenge(connection: Connection, item: Claim) -> None:
    running = update(tasks).where(tasks.c.id == item.payload.id, status_of_row == TaskStatus.RUNNING)
    connection.execute(running.where(tasks.c.due_at > item.challenge_until).values(due_at=item.challenge_until))


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


_settlements = Batch("id", "attempt", "status", "result", "error", "due_at", "processed_at", "handed_back")
_SETTLE = (
    update(tasks)
    .where(_is_of(_settlements), status_of_row == TaskStatus.RUNNING)
    .values(
        status=_settlements["status"],
        result=_settlements["result"],
        # A hand-back is no failure, and leaves what the last one said.
        error=case((_settlements["handed_back"] == 1, tasks.c.error), else_=_settlements["error"]),
        due_at=_settlements["due_at"],
        processed_at=_settlements["processed_at"],
        handed_back=tasks.c.handed_back + _settlements["handed_back"],
    )
    .returning(tasks.c.id, tasks.c.attempt)
)


def settle(connection: Connection, items: Sequence[Settlement]) -> Sequence[bool]:
    """Records outcomes; False where the attempt is no longer the current one, and nothing was recorded."""
    # Of two outcomes of one attempt, the first counts.
    firsts = {(item.id, item.attempt): item for item in reversed(items)}
    rows = connection.execute(_SETTLE, Batch.of(_settled(item) for item in firsts.values()))
    recorded = {(row.id, row.attempt) for row in rows}
    return [(item.id, item.attempt) in recorded and firsts[item.id, item.attempt] is item for item in items]


def _settled(item: Settlement) -> tuple[object, ...]:
    return (
        *(item.id, item.attempt, item.status, item.result, item.error),
        *(item.due_at, item.processed_at, int(item.handed_back)),
    )


@dataclass(frozen=True)
class Lease:
    """A running attempt whose worker is alive, and keeps it until `until` (ms) at least."""

    id: str
    attempt: int
    until: int


_leases = Batch("id", "attempt", "until")
_RENEW = (
    update(tasks)
    .where(_is_of(_leases), status_of_row == TaskStatus.RUNNING)
    .values(due_at=_leases["until"])
    .returning(tasks.c.id, tasks.c.attempt)
)


def renew(connection: Connection, items: Sequence[Lease]) -> Sequence[bool]:
    """Extends leases; False where the attempt is no longer the current one."""
    rows = connection.execute(_RENEW, Batch.of((item.id, item.attempt, item.until) for item in items))
    renewed = {(row.id, row.attempt) for row in rows}
    return [(item.id, item.attempt) in renewed for item in items]
