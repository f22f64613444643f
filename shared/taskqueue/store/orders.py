"""What people order by hand, as batched writes: cancel a task, try one again, delete one.

These are the only ways out of a final status: a retry of what failed or was cancelled, and a deletion.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, null, or_, select, tuple_, update

from taskqueue.schema import FINAL, TaskPayload, TaskStatus, sources_of
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.losses import LOSSES_IN_COMPANY
from taskqueue.store.statements import BatchWrite
from taskqueue.store.sweeps import Ready
from taskqueue.store.tables import status_of_row, task_tags, tasks
from taskqueue.store.tallies import REMOVED, count


@dataclass(frozen=True)
class Order:
    """An order at `now` (ms) for a task, provided that its status is `among` these when the order is carried out.

    A task that is to be tried again is due at `due_at` (ms) unless something happens first.
    """

    id: str
    now: int
    due_at: int = 0
    among: frozenset[TaskStatus] = frozenset(TaskStatus)


class Refused(Enum):
    """Why an order was not carried out."""

    UNKNOWN = auto()
    STATUS = auto()


class Cancelled(Enum):
    """What came of an order to cancel: the task is `cancelled`, now or before, or its worker has been asked to stop."""

    AT_ONCE = auto()
    BEFORE = auto()
    REQUESTED = auto()


_orders = Batch("id", "now", "now_s", "due_at", "among")
_IS_ORDERED: Final = and_(tasks.c.id == _orders["id"], func.instr(_orders["among"], tasks.c.status) > 0)


def _has(statuses: Iterable[TaskStatus]) -> ColumnElement[bool]:
    return or_(*(status_of_row == status for status in statuses))


def _rows(items: Iterable[Order]) -> Iterator[tuple[object, ...]]:
    # No status is a part of another's name, so that they can stand in one text.
    return ((item.id, item.now, item.now // 1000, item.due_at, " ".join(item.among)) for item in items)


_CALL_OFF = BatchWrite(
    update(tasks)
    .where(_IS_ORDERED, _has((TaskStatus.PENDING, TaskStatus.QUEUED)))
    .values(
        status=TaskStatus.CANCELLED,
        due_at=None,
        queued_at=None,
        processed_at=_orders["now_s"],
        ended_at=_orders["now"],
    )
    .returning(tasks.c.id, tasks.c.attempt, tasks.c.ended_at)
)
_REQUEST = BatchWrite(
    update(tasks)
    .where(_IS_ORDERED, _has((TaskStatus.RUNNING,)))
    .values(cancel_requested_at=func.coalesce(tasks.c.cancel_requested_at, _orders["now"]))
    .returning(tasks.c.id)
)


def cancel(connection: Connection, items: Sequence[Order]) -> Sequence[Cancelled | Refused]:
    """Cancels what has not begun, and asks the workers of what runs to stop. What was asked before stays asked."""
    called_off = _CALL_OFF.run(connection, _rows(items))
    note(connection, (Change(row.id, TaskStatus.CANCELLED, row.attempt, row.ended_at) for row in called_off))
    answers: dict[str, Cancelled] = {row.id: Cancelled.AT_ONCE for row in called_off}
    left = [item for item in items if item.id not in answers]
    if left:
        answers |= {row.id: Cancelled.REQUESTED for row in _REQUEST.run(connection, _rows(left))}
    standing = _standing(connection, [item for item in items if item.id not in answers])
    return [answers.get(item.id) or _not_cancelled(standing.get(item.id)) for item in items]


def _not_cancelled(status: TaskStatus | None) -> Cancelled | Refused:
    return Cancelled.BEFORE if status is TaskStatus.CANCELLED else _refused(status)


def _refused(status: TaskStatus | None) -> Refused:
    return Refused.UNKNOWN if status is None else Refused.STATUS


_RETRY = BatchWrite(
    update(tasks)
    .where(_IS_ORDERED, _has(status for status in sources_of(TaskStatus.PENDING) if status in FINAL))
    .values(
        status=TaskStatus.PENDING,
        due_at=_orders["due_at"],
        forgiven=tasks.c.attempt,
        result=None,
        error=None,
        processed_at=None,
        ended_at=None,
        progress=None,
        run_at=case((tasks.c.run_at <= _orders["now"], tasks.c.run_at), else_=null()),
        expires_at=case((tasks.c.expires_at > _orders["now"], tasks.c.expires_at), else_=null()),
    )
    .returning(tasks.c.id, tasks.c.attempt)
)


class Retried(Enum):
    """A task is pending again, and due."""

    DUE = auto()


def make_due(connection: Connection, items: Sequence[Order]) -> Sequence[Retried | Refused]:
    """Makes what failed or was cancelled pending again, with all its attempts before it.

    `attempt` stays, being the fencing token: it is forgiven instead.
    """
    rows = _RETRY.run(connection, _rows(items))
    at = {item.id: item.now for item in items}
    note(connection, (Change(row.id, TaskStatus.PENDING, row.attempt, at[row.id]) for row in rows))
    due: dict[str, Retried | Refused] = {row.id: Retried.DUE for row in rows}
    standing = _standing(connection, items)
    # Of two orders for one task, one is carried out.
    return [due.pop(item.id, _refused(standing.get(item.id))) for item in items]


_READY = select(tasks.c.id, tasks.c.payload, tasks.c.attempt, tasks.c.priority, tasks.c.lost)


def retry(connection: Connection, items: Sequence[Order]) -> Sequence[Ready | Refused]:
    """Does what `make_due` does, and answers what to dispatch."""
    answers = make_due(connection, items)
    ids = [item.id for item, answer in zip(items, answers, strict=True) if isinstance(answer, Retried)]
    rows: Iterable[Row[Any]] = connection.execute(_READY.where(tasks.c.id.in_(ids))) if ids else ()
    ready = {row.id: _ready(row) for row in rows}
    return [
        ready[item.id] if isinstance(answer, Retried) else answer for item, answer in zip(items, answers, strict=True)
    ]


def _ready(row: Row[Any]) -> Ready:
    alone: bool = row.lost >= LOSSES_IN_COMPANY
    payload = TaskPayload.model_validate_json(row.payload)
    return Ready(payload, row.attempt, len(row.payload), row.priority, alone=alone)


def _standing(connection: Connection, items: Sequence[Order]) -> dict[str, TaskStatus]:
    """The statuses of those of the tasks that there are."""
    if not items:
        return {}
    rows = connection.execute(select(tasks.c.id, tasks.c.status).where(tasks.c.id.in_([item.id for item in items])))
    return {row.id: TaskStatus(row.status) for row in rows}


class Deleted(Enum):
    """A task is gone."""

    GONE = auto()


def erase(connection: Connection, items: Sequence[Order]) -> Sequence[Deleted | Refused]:
    """Deletes what is finished, with its tags and its idempotency key. A message still on its way starts nothing."""
    gone = remove(connection, (item.id for item in items))
    standing = _standing(connection, [item for item in items if item.id not in gone])
    return [Deleted.GONE if item.id in gone else _refused(standing.get(item.id)) for item in items]


_doomed = Batch("id")
_DOOMED = tasks.c.id.in_(select(_doomed["id"]).select_from(_doomed.table))
_TAG = ("tag", "accepted_at", "task_id")
_tags = Batch(*_TAG)
_UNTAG = BatchWrite(
    delete(task_tags).where(
        tuple_(*(task_tags.c[column] for column in _TAG)).in_(
            select(*(_tags[column] for column in _TAG)).select_from(_tags.table)
        )
    )
)


def remove(connection: Connection, ids: Iterable[str], *conditions: ColumnElement[bool]) -> set[str]:
    """Deletes those of the finished tasks that meet the conditions, and their tags; answers which they were."""
    removal = delete(tasks).where(_DOOMED, _has(FINAL), *conditions)
    rows = connection.execute(
        removal.returning(tasks.c.id, tasks.c.accepted_at, tasks.c.tags), Batch.of([task_id] for task_id in ids)
    ).all()
    tags = [(tag, row.accepted_at, row.id) for row in rows if row.tags for tag in _tags_in(row.tags)]
    if tags:
        _UNTAG.run(connection, tags)
    count(connection, REMOVED, len(rows))
    return {row.id for row in rows}


def _tags_in(text: str) -> Sequence[str]:
    """None where they are damaged: a tag may outlive its task, but no task must outlive its time."""
    try:
        found = from_json(text)
    except ValueError:
        return ()
    return found if isinstance(found, list) else ()
