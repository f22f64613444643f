"""Ageing: normal tasks that high ones hold back become high themselves, the oldest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from taskqueue.schema import HIGH, NORMAL, TaskStatus
from taskqueue.store.tables import status_of_row, tasks


@dataclass(frozen=True)
class HeldBack:
    """Says, at `now`, that up to `limit` normal tasks whose message was made before `made_before` have waited enough.

    Instants in ms.
    """

    made_before: int
    now: int
    limit: int


def raise_held_back(connection: Connection, items: Sequence[HeldBack]) -> Sequence[int]:
    """Makes queued normal tasks high, and due at once; answers how many. Their first messages start nothing later."""
    return [_raise(connection, item) for item in items]


def _raise(connection: Connection, item: HeldBack) -> int:
    oldest = (
        select(tasks.c.id)
        .where(
            tasks.c.priority == NORMAL,
            tasks.c.queued_at < item.made_before,
            status_of_row == TaskStatus.QUEUED,
        )
        .order_by(tasks.c.queued_at)
        .limit(item.limit)
        .with_for_update(skip_locked=True)
    )
    raised = connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(oldest))
        .values(priority=HIGH, status=TaskStatus.PENDING, due_at=item.now, queued_at=None)
        .returning(tasks.c.id)
    )
    return len(raised.all())
