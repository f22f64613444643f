"""What is read from the store, through its read pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import Task, TaskStatus
from taskqueue.store import changes
from taskqueue.store.adding import Known
from taskqueue.store.shown import SHOWN, task
from taskqueue.store.statements import Query
from taskqueue.store.tables import revision, status_of_row, tasks

_TASK = Query(SHOWN.where(tasks.c.id == bindparam("task_id")))


async def find(connection: AsyncConnection, task_id: str) -> Task | None:
    """The task, if it is known."""
    row = await _TASK.row(connection, task_id=task_id)
    return task(vars(row)) if row else None


@dataclass(frozen=True)
class Glance:
    """Where a task stands, in short, after the change at `seq`: all earlier ones are in it, and no later one."""

    event: changes.Event
    progress: str | None
    error: str | None


_GLANCE = Query(
    select(
        changes.NEWEST.scalar_subquery().label("seq"),
        tasks.c.id,
        tasks.c.status,
        tasks.c.attempt,
        func.coalesce(tasks.c.ended_at, tasks.c.started_at, tasks.c.accepted_at / 1000).label("at"),
        tasks.c.action,
        tasks.c.progress,
        tasks.c.error,
    ).where(tasks.c.id == bindparam("task_id"))
)


async def glance(connection: AsyncConnection, task_id: str) -> Glance | None:
    """Where a task stands, if it is known; one statement, so that the place in the order of changes is exact."""
    row = await _GLANCE.row(connection, task_id=task_id)
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


_HOLDER = Query(
    select(tasks.c.id, tasks.c.status, tasks.c.fingerprint).where(tasks.c.idempotency_key == bindparam("key"))
)


async def holder_of(connection: AsyncConnection, key: str) -> Known | None:
    """The task that was recorded under this key, if one was."""
    row = await _HOLDER.row(connection, key=key)
    return Known(row.id, TaskStatus(row.status), row.fingerprint) if row else None


_DUE = Query(select(tasks.c.id).where(tasks.c.due_at <= bindparam("now")).limit(1))
_QUEUED = Query(
    select(tasks.c.id)
    .where(
        tasks.c.priority == bindparam("priority"),
        tasks.c.queued_at < bindparam("made_before"),
        status_of_row == TaskStatus.QUEUED,
    )
    .limit(1)
)
_CALLED_OFF = Query(
    select(tasks.c.id, tasks.c.attempt).where(
        tasks.c.cancel_requested_at.is_not(None),
        status_of_row == TaskStatus.RUNNING,
        tasks.c.worker == bindparam("worker"),
    )
)
_WAITING = Query(
    select(func.count().label("number")).select_from(
        select(tasks.c.accepted_at)
        .where(tasks.c.status.in_([literal(TaskStatus.PENDING), literal(TaskStatus.QUEUED)]))
        .limit(bindparam("most"))
        .subquery()
    )
)


async def anything_due(connection: AsyncConnection, now: int) -> bool:
    """Whether a task is due at `now` (ms): cheaper than taking the write lock to find out."""
    return await _DUE.row(connection, now=now) is not None


async def expired_leases(connection: AsyncConnection, now: int) -> Mapping[str, int]:
    """The running tasks whose lease has run out at `now`, by the ends of their leases (ms)."""
    ran_out = (tasks.c.status == TaskStatus.RUNNING, tasks.c.due_at + 0 <= now)
    return {row.id: row.due_at for row in await connection.execute(select(tasks.c.id, tasks.c.due_at).where(*ran_out))}


async def waiting(connection: AsyncConnection, limit: int) -> int:
    """How many tasks are pending or queued, counted up to `limit`."""
    [row] = await _WAITING.rows(connection, most=limit)
    return int(row.number)


async def anything_queued(connection: AsyncConnection, priority: int, made_before: int) -> bool:
    """Whether the message of a queued task of this priority was made before this instant (ms)."""
    return await _QUEUED.row(connection, priority=priority, made_before=made_before) is not None


async def called_off(connection: AsyncConnection, worker: str) -> Sequence[tuple[str, int]]:
    """The running attempts of `worker` that somebody has called off: ids and attempts."""
    return [(row.id, row.attempt) for row in await _CALLED_OFF.rows(connection, worker=worker)]


async def schema_revisions(connection: AsyncConnection) -> Sequence[str]:
    """The revision of the schema, as Alembic notes it."""
    return (await connection.execute(select(revision.c.version_num))).scalars().all()
