"""What is read from the store, through its read pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import Task, TaskStatus
from taskqueue.store import changes
from taskqueue.store.adding import Known
from taskqueue.store.shown import SHOWN, task
from taskqueue.store.tables import revision, status_of_row, tasks


async def find(connection: AsyncConnection, task_id: str) -> Task | None:
    """The task, if it is known."""
    row = (await connection.execute(SHOWN.where(tasks.c.id == task_id))).mappings().one_or_none()
    return task(row) if row else None


@dataclass(frozen=True)
class Glance:
    """Where a task stands, in short, after the change at `seq`: all earlier ones are in it, and no later one."""

    event: changes.Event
    progress: str | None
    error: str | None


_GLANCE = select(
    changes.NEWEST.scalar_subquery().label("seq"),
    tasks.c.id,
    tasks.c.status,
    tasks.c.attempt,
    func.coalesce(tasks.c.ended_at, tasks.c.started_at, tasks.c.accepted_at / 1000).label("at"),
    tasks.c.action,
    tasks.c.progress,
    tasks.c.error,
)


async def glance(connection: AsyncConnection, task_id: str) -> Glance | None:
    """Where a task stands, if it is known; one statement, so that the place in the order of changes is exact."""
    row = (await connection.execute(_GLANCE.where(tasks.c.id == task_id))).one_or_none()
    if row is None:
        return None
    change = changes.Change(row.id, TaskStatus(row.status), row.attempt, int(row.at))
    return Glance(changes.Event(row.seq, change, row.action), row.progress, row.error)


async def newest_change(connection: AsyncConnection) -> int:
    """The place of the newest change; 0 where there is none."""
    return int((await connection.execute(changes.NEWEST)).scalar_one())


async def oldest_change(connection: AsyncConnection) -> int | None:
    """The place of the oldest change that is kept; None where there is none."""
    oldest: int | None = (await connection.execute(changes.OLDEST)).scalar_one()
    return oldest


async def changes_after(
    connection: AsyncConnection, seq: int, until: int, limit: int, task_id: str | None
) -> Sequence[changes.Event]:
    """The first changes after `seq`, up to `until`; of one task, or of all."""
    rows = await connection.execute(changes.after(seq, limit, until=until, task_id=task_id))
    return [changes.event(row) for row in rows]


async def holder_of(connection: AsyncConnection, key: str) -> Known | None:
    """The task that was recorded under this key, if one was."""
    query = select(tasks.c.id, tasks.c.status, tasks.c.fingerprint).where(tasks.c.idempotency_key == key)
    row = (await connection.execute(query)).one_or_none()
    return Known(row.id, TaskStatus(row.status), row.fingerprint) if row else None


# What is asked again and again is put together once: that costs more than to run it.
_DUE = select(tasks.c.id).where(tasks.c.due_at <= bindparam("now")).limit(1)
_QUEUED = (
    select(tasks.c.id)
    .where(
        tasks.c.priority == bindparam("priority"),
        tasks.c.queued_at < bindparam("made_before"),
        status_of_row == TaskStatus.QUEUED,
    )
    .limit(1)
)
_CALLED_OFF = select(tasks.c.id, tasks.c.attempt).where(
    tasks.c.cancel_requested_at.is_not(None),
    status_of_row == TaskStatus.RUNNING,
    tasks.c.worker == bindparam("worker"),
)


async def anything_due(connection: AsyncConnection, now: int) -> bool:
    """Whether a task is due at `now` (ms): cheaper than taking the write lock to find out."""
    return (await connection.execute(_DUE, {"now": now})).first() is not None


async def expired_leases(connection: AsyncConnection, now: int) -> Mapping[str, int]:
    """The running tasks whose lease has run out at `now`, by the ends of their leases (ms)."""
    ran_out = (tasks.c.status == TaskStatus.RUNNING, tasks.c.due_at + 0 <= now)
    return {row.id: row.due_at for row in await connection.execute(select(tasks.c.id, tasks.c.due_at).where(*ran_out))}


async def waiting(connection: AsyncConnection, limit: int) -> int:
    """How many tasks are pending or queued, counted up to `limit`."""
    found = select(tasks.c.accepted_at).where(tasks.c.status.in_((TaskStatus.PENDING, TaskStatus.QUEUED))).limit(limit)
    return int((await connection.execute(select(func.count()).select_from(found.subquery()))).scalar_one())


async def anything_queued(connection: AsyncConnection, priority: int, made_before: int) -> bool:
    """Whether the message of a queued task of this priority was made before this instant (ms)."""
    asked = {"priority": priority, "made_before": made_before}
    return (await connection.execute(_QUEUED, asked)).first() is not None


async def called_off(connection: AsyncConnection, worker: str) -> Sequence[tuple[str, int]]:
    """The running attempts of `worker` that somebody has called off: ids and attempts."""
    return [(row.id, row.attempt) for row in await connection.execute(_CALLED_OFF, {"worker": worker})]


async def schema_revisions(connection: AsyncConnection) -> Sequence[str]:
    """The revision of the schema, as Alembic notes it."""
    return (await connection.execute(select(revision.c.version_num))).scalars().all()
