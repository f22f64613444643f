"""Queueing: what the broker has confirmed that it holds, as a batched write."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, update

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.guards import is_of, may_become
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import tasks


@dataclass(frozen=True)
class Dispatched:
    """A message that the broker has confirmed: made at `dispatched_at` (ms), after `attempt` attempts."""

    id: str
    attempt: int
    dispatched_at: int


_dispatched = Batch("id", "attempt", "dispatched_at")
_MARK_QUEUED = BatchWrite(
    update(tasks)
    .where(is_of(_dispatched), may_become(TaskStatus.QUEUED))
    .values(status=TaskStatus.QUEUED, due_at=None, queued_at=_dispatched["dispatched_at"])
)


def mark_queued(connection: Connection, items: Sequence[Dispatched]) -> Sequence[None]:
    """Notes what the broker holds now, where no worker was faster."""
    _MARK_QUEUED.run(connection, ((item.id, item.attempt, item.dispatched_at) for item in items))
    return [None] * len(items)
