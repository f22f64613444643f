"""What became of tasks, in the order of commits: one row a change, written in the same transaction as the change."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, insert, select

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import changes, tasks

_COLUMNS = ("task_id", "status", "attempt", "at", "detail")
_changes = Batch(*_COLUMNS)
_NOTE = BatchWrite(
    insert(changes).from_select(
        _COLUMNS, select(*(_changes[column] for column in _COLUMNS)).select_from(_changes.table)
    )
)


@dataclass(frozen=True)
class Change:
    """A task has come to `status`, or told of itself, at `at` (ms). `detail` is JSON text: a progress, or an error."""

    task_id: str
    status: TaskStatus
    attempt: int
    at: int
    detail: str | None = None


def note(connection: Connection, items: Iterable[Change]) -> None:
    """Appends changes."""
    rows = [(item.task_id, item.status, item.attempt, item.at, item.detail) for item in items]
    if rows:
        _NOTE.run(connection, rows)


@dataclass(frozen=True)
class Event:
    """A change as it is told to those who listen: `seq` is its place in the order of commits."""

    seq: int
    change: Change
    action: str | None
    """None where the task has been deleted since."""


def after(seq: int, limit: int, *, until: int | None = None, task_id: str | None = None) -> Select[Any]:
    """The query for the first changes after `seq`; up to `until`, and of one task, where so asked."""
    query = (
        select(changes, tasks.c.action)
        .select_from(changes.outerjoin(tasks, tasks.c.id == changes.c.task_id))
        # A word that this version does not know must not stop who follows.
        .where(changes.c.seq > seq, changes.c.status.in_(TaskStatus))
        .order_by(changes.c.seq)
        .limit(limit)
    )
    if until is not None:
        query = query.where(changes.c.seq <= until)
    return query if task_id is None else query.where(changes.c.task_id == task_id)


OLDEST: Final = select(func.min(changes.c.seq))
"""The query for the place of the oldest change that is kept."""

NEWEST: Final = select(func.coalesce(func.max(changes.c.seq), 0))
"""The query for the place of the newest change."""


def event(row: Row[Any]) -> Event:
    """What a row of `after` tells."""
    return Event(row.seq, Change(row.task_id, TaskStatus(row.status), row.attempt, row.at, row.detail), row.action)
