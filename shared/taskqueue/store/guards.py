"""Guards: the WHERE of an UPDATE is the statuses that may become the new one, and the attempt, the fencing token.

The transaction holds the write lock, so what one statement sees here cannot change before the next.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, or_

from taskqueue.schema import TaskStatus, sources_of
from taskqueue.store.batch import Batch
from taskqueue.store.tables import status_of_row, tasks


def may_become(target: TaskStatus) -> ColumnElement[bool]:
    """The guard of a transition: the row has a status from which it may go to `target`."""
    return or_(*(status_of_row == source for source in sources_of(target)))


def is_of(batch: Batch) -> ColumnElement[bool]:
    """The row is one of the batch, and still at its attempt."""
    return and_(tasks.c.id == batch["id"], tasks.c.attempt == batch["attempt"])


def is_running_as(batch: Batch) -> ColumnElement[bool]:
    """The guard of whatever a running attempt tells: the row is at that attempt, and it runs."""
    return and_(is_of(batch), status_of_row == TaskStatus.RUNNING)


class OfAttempt(Protocol):
    """What is about one attempt of one task."""

    @property
    def id(self) -> str:
        """The task's."""

    @property
    def attempt(self) -> int:
        """Its number: the fencing token."""


def are_among(rows: Iterable[Any], items: Iterable[OfAttempt]) -> Sequence[bool]:
    """For each item, whether its attempt is one of those that were changed: the rows say which."""
    changed = {(row.id, row.attempt) for row in rows}
    return [(item.id, item.attempt) in changed for item in items]
