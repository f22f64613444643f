"""Every change of a task, as a batched write: a guarded transition that answers what came of each item.

A guard is the WHERE of an UPDATE: the statuses that may become the new one, and the attempt that is the fencing token.
The transaction holds the write lock, so what one statement sees here cannot change before the next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, insert, null, or_, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from taskqueue.schema import NO_OPTIONS, TaskOptions, TaskPayload, TaskStatus, sources_of
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.history import appended
from taskqueue.store.tables import status_of_row, task_tags, tasks

EXPIRED = "expired before it started"


def _may_become(target: TaskStatus) -> ColumnElement[bool]:
    """The guard of a transition: the row has a status from which it may go to `target`."""
    return or_(*(status_of_row == source for source in sources_of(target)))


def _is_of(batch: Batch) -> ColumnElement[bool]:
    """The row is one of the batch, and still at its attempt."""
    return and_(tasks.c.id == batch["id"], tasks.c.attempt == batch["attempt"])


@dataclass(frozen=True)
class NewTask:
    """A task to record. `accepted_at` is in microseconds, `due_at` in milliseconds.

    Of one `key`, one task is ever recorded; `fingerprint` tells whether the same was asked for.
    """

    payload: TaskPayload
    accepted_at: int
    due_at: int
    options: TaskOptions = NO_OPTIONS
    key: str | None = None
    fingerprint: str | None = None
    schedule_id: str | None = None


@dataclass(frozen=True)
class Known:
    """A task that was recorded before, under the same key."""

    id: str
    status: TaskStatus
    fingerprint: str | None


_NEW = (
    *("id", "payload", "created_at", "accepted_at", "due_at", "action", "priority", "timeout", "max_attempts"),
    *("run_at", "expires_at", "tags", "traceparent", "idempotency_key", "fingerprint", "schedule_id"),
)
_new = Batch(*_NEW)
_NEW_ROWS = select(*(_new[column] for column in _NEW)).select_from(_new.table).where(_new.table.c.value.is_not(None))
_ADD = insert(tasks).from_select(_NEW, _NEW_ROWS)
_ADD_ONCE = (
    insert_or(tasks)
    .from_select(_NEW, _NEW_ROWS)
    .on_conflict_do_nothing(index_elements=[tasks.c.idempotency_key], index_where=tasks.c.idempotency_key.is_not(None))
    .returning(tasks.c.id)
)
_TAGGED = ("tag", "accepted_at", "task_id")
_tagged = Batch(*_TAGGED)
_TAG = insert(task_tags).from_select(
    _TAGGED, select(*(_tagged[column] for column in _TAGGED)).select_from(_tagged.table)
)


def add(connection: Connection, items: Sequence[NewTask]) -> Sequence[Known | None]:
    """Records new tasks as `pending`; answers the one that was there before, where its key was taken."""
    plain = [item for item in items if item.key is None]
    keyed = [item for item in items if item.key is not None]
    if plain:
        connection.execute(_ADD, Batch.of(map(_new_row, plain)))
    known = _add_once(connection, keyed) if keyed else {}
    added = [item for item in items if item.payload.id not in known]
    tags = [(tag, item.accepted_at, item.payload.id) for item in added for tag in item.options.tags]
    if tags:
        connection.execute(_TAG, Batch.of(tags))
    note(connection, (Change(item.payload.id, TaskStatus.PENDING, 0, item.accepted_at // 1000) for item in added))
    return [known.get(item.payload.id) for item in items]


def _add_once(connection: Connection, items: Sequence[NewTask]) -> dict[str, Known]:
    """For each item whose key was taken, by the item's id, the task that has it."""
    added = {row.id for row in connection.execute(_ADD_ONCE, Batch.of(map(_new_row, items)))}
    taken = {item.key: item for item in items if item.payload.id not in added}
    if not taken:
        return {}
    rows = connection.execute(
        select(tasks.c.id, tasks.c.status, tasks.c.fingerprint, tasks.c.idempotency_key).where(
            tasks.c.idempotency_key.in_(list(taken))
        )
    )
    holders = {row.idempotency_key: Known(row.id, TaskStatus(row.status), row.fingerprint) for row in rows}
    return {item.payload.id: holders[item.key] for item in items if item.payload.id not in added and item.key}


def _new_row(item: NewTask) -> tuple[object, ...]:
    payload, options = item.payload, item.options
    return (
        *(payload.id, payload.model_dump_json(), payload.created_at, item.accepted_at, item.due_at, payload.action),
        *(options.priority, options.timeout, options.max_attempts, options.run_at, options.expires_at),
        *(to_json(options.tags).decode() if options.tags else None, options.traceparent),
        *(item.key, item.fingerprint, item.schedule_id),
    )


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
    worker then has until `challenge_until` to renew its lease. `timeout` (ms) and `max_attempts` are the action's, for
    a task that does not say. A task that was `recorded` once, and is not there, was deleted.
    """

    payload: TaskPayload
    attempt: int
    worker: str
    now: int
    lease_until: int
    challenge_until: int
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
_BEGIN_ATTEMPTS = (
    update(tasks)
    .where(
        _is_of(_claims),
        _may_become(TaskStatus.RUNNING),
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


def claim(connection: Connection, items: Sequence[Claim]) -> Sequence[Claimed | NotClaimed]:
    """Begins attempts. A task that nobody has recorded, from another producer, is recorded here."""
    rows = connection.execute(_BEGIN_ATTEMPTS, Batch.of(map(_claim_row, items)))
    claimed = [_claimed(row) for row in rows]
    begun = {(each.payload.id, each.attempt - 1): each for each in claimed}
    # Two items may be the same message, delivered twice: the first has the attempt.
    answers = [begun.pop((item.payload.id, item.attempt), None) for item in items]
    missed = [item for item, answer in zip(items, answers, strict=True) if answer is None]
    reasons = iter(list(_explain(connection, missed)) if missed else ())
    explained = [next(reasons) if answer is None else answer for answer in answers]
    note(connection, (_begun(answer) for answer in explained if isinstance(answer, Claimed)))
    return explained


def _claim_row(item: Claim) -> tuple[object, ...]:
    return (
        *(item.payload.id, item.attempt, item.worker, item.now, item.lease_until),
        *(item.timeout, item.max_attempts, int(item.alone)),
    )


def _claimed(row: Row[Any]) -> Claimed:
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


def _explain(connection: Connection, items: Sequence[Claim]) -> Iterable[Claimed | NotClaimed]:
    ids = [item.payload.id for item in items]
    rows = connection.execute(select(tasks.c.id, tasks.c.status, tasks.c.attempt).where(tasks.c.id.in_(ids)))
    known = {row.id: (row.status, row.attempt) for row in rows}
    for item in items:
        standing = known.get(item.payload.id)
        if standing is None and item.recorded:
            yield NotClaimed.SUPERSEDED
        elif standing is None:
            known[item.payload.id] = (TaskStatus.RUNNING, 1)
            yield _record_and_begin(connection, item)
        elif standing == (TaskStatus.RUNNING, item.attempt + 1):
            _challenge(connection, item)
            yield NotClaimed.RUNNING
        elif standing[0] in sources_of(TaskStatus.RUNNING) and standing[1] == item.attempt:
            # All that the guard asks for but one: it has expired.
            expire(connection, [item.payload.id], item.now)
            yield NotClaimed.EXPIRED
        else:
            yield NotClaimed.SUPERSEDED


def _record_and_begin(connection: Connection, item: Claim) -> Claimed:
    first = Claimed(item.payload, 1, 0, item.now, item.worker, item.timeout, item.max_attempts)
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
        action=item.payload.action,
        timeout=item.timeout,
        max_attempts=item.max_attempts,
        alone=int(item.alone),
    )
    connection.execute(row)
    return first


def expire(connection: Connection, ids: Sequence[str], now: int) -> Sequence[str]:
    """Calls off tasks that have not begun, since they would begin too late; answers those that it was true of."""
    expired = connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(ids), _may_become(TaskStatus.RUNNING), tasks.c.expires_at <= now)
        .values(
            status=TaskStatus.CANCELLED,
            error=EXPIRED,
            due_at=None,
            queued_at=None,
            processed_at=now // 1000,
            ended_at=now,
        )
        .returning(tasks.c.id, tasks.c.attempt)
    ).all()
    note(connection, (Change(row.id, TaskStatus.CANCELLED, row.attempt, now) for row in expired))
    return [row.id for row in expired]


def _challenge(connection: Connection, item: Claim) -> None:
    running = update(tasks).where(tasks.c.id == item.payload.id, status_of_row == TaskStatus.RUNNING)
    connection.execute(running.where(tasks.c.due_at > item.challenge_until).values(due_at=item.challenge_until))


@dataclass(frozen=True)
class Settlement:
    """What came of an attempt at `now` (ms). `due_at` (ms) where it goes back to `pending`.

    `entry` is what its history keeps of it. One that would go back, and was called off meanwhile, becomes `cancelled`.
    """

    id: str
    attempt: int
    status: TaskStatus
    result: str | None = None
    error: str | None = None
    due_at: int | None = None
    now: int = 0
    handed_back: bool = False
    entry: str | None = None


_settlements = Batch("id", "attempt", "status", "result", "error", "due_at", "now", "now_s", "handed_back", "entry")
_GOES_BACK = _settlements["status"] == TaskStatus.PENDING
_CALLED_OFF = and_(_GOES_BACK, tasks.c.cancel_requested_at.is_not(None))
_WAITS = and_(_GOES_BACK, tasks.c.cancel_requested_at.is_(None))
_SETTLE = (
    update(tasks)
    .where(_is_of(_settlements), status_of_row == TaskStatus.RUNNING)
    .values(
        status=case((_CALLED_OFF, TaskStatus.CANCELLED.value), else_=_settlements["status"]),
        result=_settlements["result"],
        # A hand-back is no failure, and leaves what the last one said.
        error=case((_settlements["handed_back"] == 1, tasks.c.error), else_=_settlements["error"]),
        due_at=case((_WAITS, _settlements["due_at"]), else_=null()),
        processed_at=case((_WAITS, null()), else_=_settlements["now_s"]),
        ended_at=case((_WAITS, null()), else_=_settlements["now"]),
        forgiven=tasks.c.forgiven + _settlements["handed_back"],
        history=case((_settlements["entry"].is_(None), tasks.c.history), else_=appended(_settlements["entry"])),
        cancel_requested_at=None,
    )
    .returning(tasks.c.id, tasks.c.attempt, tasks.c.status)
)


def settle(connection: Connection, items: Sequence[Settlement]) -> Sequence[bool]:
    """Records outcomes; False where the attempt is no longer the current one, and nothing was recorded."""
    # Of two outcomes of one attempt, the first counts.
    firsts = {(item.id, item.attempt): item for item in reversed(items)}
    rows = connection.execute(_SETTLE, Batch.of(_settled(item) for item in firsts.values())).all()
    recorded = {(row.id, row.attempt) for row in rows}
    note(connection, (_settled_change(row, firsts[row.id, row.attempt]) for row in rows))
    return [(item.id, item.attempt) in recorded and firsts[item.id, item.attempt] is item for item in items]


def _settled(item: Settlement) -> tuple[object, ...]:
    return (
        *(item.id, item.attempt, item.status, item.result, item.error),
        *(item.due_at, item.now, item.now // 1000, int(item.handed_back), item.entry),
    )


def _settled_change(row: Row[Any], item: Settlement) -> Change:
    detail = None if item.error is None else to_json({"error": item.error}).decode()
    return Change(row.id, TaskStatus(row.status), row.attempt, item.now, detail)


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


@dataclass(frozen=True)
class Progress:
    """What the handler of a running attempt tells at `now` (ms): JSON text."""

    id: str
    attempt: int
    now: int
    progress: str


_reports = Batch("id", "attempt", "progress")
_REPORT = (
    update(tasks)
    .where(_is_of(_reports), status_of_row == TaskStatus.RUNNING)
    .values(progress=_reports["progress"])
    .returning(tasks.c.id, tasks.c.attempt)
)


def report(connection: Connection, items: Sequence[Progress]) -> Sequence[bool]:
    """Notes progress; False where the attempt is no longer the current one. Of two of one attempt the last counts."""
    lasts = {(item.id, item.attempt): item for item in items}
    rows = connection.execute(
        _REPORT, Batch.of((item.id, item.attempt, item.progress) for item in lasts.values())
    ).all()
    reported = {(row.id, row.attempt) for row in rows}
    note(
        connection,
        (
            Change(item.id, TaskStatus.RUNNING, item.attempt, item.now, item.progress)
            for item in lasts.values()
            if (item.id, item.attempt) in reported
        ),
    )
    return [(item.id, item.attempt) in reported for item in items]
