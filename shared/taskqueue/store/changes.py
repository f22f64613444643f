"""What became of tasks, in the order of commits: one row a change, written in the same transaction as the change."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.tables import changes

_COLUMNS = ("task_id", "status", "attempt", "at", "detail")
_changes = Batch(*_COLUMNS)
_NOTE = insert(changes).from_select(
    _COLUMNS, select(*(_changes[column] for column in _COLUMNS)).select_from(_changes.table)
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
        connection.execute(_NOTE, Batch.of(rows))
