"""Where a task stands, and among what: all that it takes to tell why it is there."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, RowMapping, case, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import TaskStatus
from taskqueue.store.roster import LIVE_MS
from taskqueue.store.tables import status_of_row, tasks, workers

COUNTED: Final = 10_000
"""Counting goes no further than to one more than this."""


@dataclass(frozen=True)
class Neighbours:
    """How many tasks will be handed out before it, how many run, how many live workers there are, how many know it."""

    ahead: int = 0
    at_work: int = 0
    workers: int = 0
    able: int = 0


@dataclass(frozen=True)
class Standing:
    """A task as it stands; `attempts` are those that count. Instants in ms. Neighbours where it waits for a worker."""

    status: TaskStatus
    action: str
    attempts: int
    max_attempts: int | None
    run_at: int | None
    due_at: int | None
    started_at: int | None
    ended_at: int | None
    worker: str | None
    error: str | None
    cancel_requested_at: int | None
    neighbours: Neighbours = Neighbours()


_STANDING: Final = select(
    tasks.c.status,
    tasks.c.action,
    (tasks.c.attempt - tasks.c.forgiven).label("attempts"),
    tasks.c.max_attempts,
    tasks.c.run_at,
    tasks.c.due_at,
    tasks.c.started_at,
    func.coalesce(tasks.c.ended_at, tasks.c.processed_at * 1000).label("ended_at"),
    tasks.c.worker,
    tasks.c.error,
    tasks.c.cancel_requested_at,
    tasks.c.priority,
    tasks.c.queued_at,
)
_SHOWN: Final = tuple(column.name for column in _STANDING.selected_columns)[:-2]


async def standing(connection: AsyncConnection, task_id: str, now: int) -> Standing | None:
    """Where the task stands at `now` (ms), if it is known."""
    row = (await connection.execute(_STANDING.where(tasks.c.id == task_id))).mappings().one_or_none()
    if row is None:
        return None
    shown = {name: row[name] for name in _SHOWN} | {"status": TaskStatus(row["status"])}
    if shown["status"] in (TaskStatus.PENDING, TaskStatus.QUEUED):
        shown["neighbours"] = await _neighbours(connection, row, now)
    return Standing(**shown)


async def _neighbours(connection: AsyncConnection, row: RowMapping, now: int) -> Neighbours:
    """A message goes behind those of its priority that were made before it, and behind all of a higher one."""
    before = () if row["queued_at"] is None else (tasks.c.queued_at < row["queued_at"],)
    queued = (tasks.c.queued_at.is_not(None), status_of_row == TaskStatus.QUEUED)
    same = await _count(connection, tasks.c.priority == row["priority"], *before, *queued)
    higher = await _count(connection, tasks.c.priority > row["priority"], *queued)
    at_work = await _count(connection, tasks.c.status == TaskStatus.RUNNING)
    live = select(func.count()).select_from(workers).where(workers.c.seen_at >= now - LIVE_MS)
    actions = case((func.json_valid(workers.c.actions), workers.c.actions), else_="{}")
    offered = func.json_each(actions).table_valued("key", name="offered")
    able = select(func.count()).select_from(workers.join(offered, true())).where(offered.c.key == row["action"])
    return Neighbours(
        same + higher,
        at_work,
        (await connection.execute(live)).scalar_one(),
        (await connection.execute(able.where(workers.c.seen_at >= now - LIVE_MS))).scalar_one(),
    )


async def _count(connection: AsyncConnection, *conditions: ColumnElement[bool]) -> int:
    found = select(tasks.c.accepted_at).where(*conditions).limit(COUNTED + 1).subquery()
    counted: int = (await connection.execute(select(func.count()).select_from(found))).scalar_one()
    return counted
