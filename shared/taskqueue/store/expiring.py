"""Expiring: a task that has not begun by its `expires_at` is called off, since it would begin too late."""

from collections.abc import Sequence

from sqlalchemy import Connection, update

from taskqueue.schema import TaskStatus
from taskqueue.store.changes import Change, note
from taskqueue.store.guards import may_become
from taskqueue.store.tables import tasks

EXPIRED = "expired before it started"


def expire(connection: Connection, ids: Sequence[str], now: int) -> Sequence[str]:
    """Calls off tasks that have not begun, since they would begin too late; answers those that it was true of."""
    expired = connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(ids), may_become(TaskStatus.RUNNING), tasks.c.expires_at <= now)
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
