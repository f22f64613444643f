"""Schedules on disk. A tick makes its task and moves the schedule on in one transaction: exactly one task a tick.

Any process may find that a schedule is due. The transaction holds the write lock, so the second one finds that it has
moved on already.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, Row, and_, bindparam, case, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue import events
from taskqueue.errors import RowDamaged
from taskqueue.schedule import Schedule, ScheduleRequest, makes_task
from taskqueue.store.adding import NewTask, add
from taskqueue.store.faults import reading
from taskqueue.store.pages import PAGE_CHARACTERS, Position
from taskqueue.store.statements import Query
from taskqueue.store.sweeps import Ready
from taskqueue.store.tables import schedules

TICKS_AT_ONCE: Final = 50
PAGE: Final = 100
_RECURRENCE: Final = ("cron", "interval", "timezone", "paused")


@dataclass(frozen=True)
class Kept:
    """A schedule to record, or to record anew. Instants in ms."""

    id: str
    request: ScheduleRequest
    created_at: int
    next_at: int | None


def keep(connection: Connection, items: Sequence[Kept]) -> Sequence[None]:
    """Records new schedules."""
    connection.execute(
        insert(schedules),
        [{"id": item.id, "created_at": item.created_at // 1000, **_columns(item)} for item in items],
    )
    return [None] * len(items)


@dataclass(frozen=True)
class Replacement:
    """A schedule to record in the place of what `was` read; somebody else may have changed it since."""

    was: Schedule
    kept: Kept


def change(connection: Connection, items: Sequence[Replacement]) -> Sequence[bool]:
    """Records schedules anew; False where one is no longer what it was, or is gone.

    A next tick stands where nothing about it has changed: one that is due this very moment must not get lost.
    """
    return [_change(connection, item) for item in items]


def _change(connection: Connection, item: Replacement) -> bool:
    was, columns = _asked(item.was, item.kept.created_at), _columns(item.kept)
    recurs_as_before = and_(*(schedules.c[name].is_not_distinct_from(columns[name]) for name in _RECURRENCE))
    # One that has stopped begins anew, whatever is changed.
    ticks_as_before = and_(recurs_as_before, schedules.c.next_at.is_not(None))
    columns["next_at"] = case((ticks_as_before, schedules.c.next_at), else_=columns["next_at"])
    unchanged = (schedules.c[name].is_not_distinct_from(value) for name, value in was.items())
    changed = connection.execute(update(schedules).where(schedules.c.id == item.kept.id, *unchanged).values(**columns))
    return changed.rowcount > 0


def forget(connection: Connection, items: Sequence[str]) -> Sequence[bool]:
    """Deletes the schedules of these ids; False where there is none. The tasks that it made stay."""
    return [connection.execute(delete(schedules).where(schedules.c.id == item)).rowcount > 0 for item in items]


def _columns(item: Kept) -> dict[str, Any]:
    return {**_asked(item.request, item.created_at), "next_at": item.next_at}


def _asked(request: ScheduleRequest, created_at: int) -> dict[str, Any]:
    recurrence = request.recurrence(created_at)
    return {
        "action": request.action,
        "data": to_json(request.data).decode(),
        "options": to_json(request.stored_options()).decode(),
        "cron": recurrence.cron,
        "interval": recurrence.interval,
        "timezone": request.timezone,
        "missed": request.missed,
        "paused": int(request.paused),
    }


@dataclass(frozen=True)
class Tick:
    """Asks, at `now`, for the tasks of due schedules, which are their maker's to dispatch until `lease_until` (ms).

    `stamps` are the instants of acceptance (µs) that they may have.
    """

    now: int
    lease_until: int
    stamps: Sequence[int]


def tick(connection: Connection, items: Sequence[Tick]) -> Sequence[list[Ready]]:
    """Makes the tasks of schedules that are due, and moves these on; answers the tasks."""
    return [_tick(connection, item) for item in items]


def _tick(connection: Connection, item: Tick) -> list[Ready]:
    due = connection.execute(
        select(schedules)
        .where(schedules.c.next_at <= item.now, schedules.c.paused == 0)
        .order_by(schedules.c.next_at)
        .limit(len(item.stamps))
    ).all()
    made = [_tick_one(connection, row, item, stamp) for row, stamp in zip(due, item.stamps, strict=False)]
    return [ready for ready in made if ready is not None]


def _tick_one(connection: Connection, row: Row[Any], item: Tick, stamp: int) -> Ready | None:
    """A schedule that cannot be read any more stops, and stops no other."""
    moved = update(schedules).where(schedules.c.id == row.id)
    try:
        request = _schedule(row)
        with reading(f"schedule {row.id}"):
            recurrence = request.recurrence(request.created_at * 1000)
            next_at = recurrence.next_after(item.now)
            wanted = makes_task(recurrence, row.next_at, item.now, request.missed)
    except RowDamaged as error:
        events.emit(events.SCHEDULE_STOPPED, schedule_id=row.id, reason=str(error))
        connection.execute(moved.values(next_at=None))
        return None
    if not wanted:
        connection.execute(moved.values(next_at=next_at))
        return None
    payload = request.payload(created_at=item.now // 1000)
    options = request.base_options()
    add(connection, [NewTask(payload, stamp, item.lease_until, options, schedule_id=row.id)])
    connection.execute(moved.values(next_at=next_at, last_at=row.next_at, last_task_id=payload.id))
    return Ready(payload, 0, len(row.data), options.priority)


_TICKS = Query(select(schedules.c.id).where(schedules.c.next_at <= bindparam("now")).limit(1))


async def anything_ticks(connection: AsyncConnection, now: int) -> bool:
    """Whether a schedule is due at `now` (ms)."""
    return await _TICKS.row(connection, now=now) is not None


async def find(connection: AsyncConnection, schedule_id: str) -> Schedule | None:
    """The schedule, if it is known."""
    row = (await connection.execute(select(schedules).where(schedules.c.id == schedule_id))).one_or_none()
    return _schedule(row) if row else None


@dataclass(frozen=True)
class Listed:
    """Schedules, oldest first, and where to go on, unless these were the last."""

    schedules: Sequence[Schedule]
    next: Position | None = None


_CHARACTERS: Final = func.coalesce(func.length(schedules.c.data), 0).label("characters")


async def listed(connection: AsyncConnection, after: Position | None = None) -> Listed:
    """A page of schedules: as many as one may hold, by their number and their size."""
    place = schedules.c.created_at, schedules.c.id
    query = select(*place, _CHARACTERS).order_by(*place).limit(PAGE + 1)
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(after.accepted_at, after.id))
    found = (await connection.execute(query)).all()
    sizes = accumulate(row.characters for row in found[:PAGE])
    here = [row for row, size in zip(found, sizes, strict=False) if size <= PAGE_CHARACTERS] or found[:1]
    wanted = select(schedules).where(schedules.c.id.in_([row.id for row in here])).order_by(*place)
    rows = await connection.execute(wanted)
    more = Position(here[-1].created_at, here[-1].id) if len(here) < len(found) else None
    return Listed(list(_readable(rows)), more)


def _readable(rows: Iterable[Row[Any]]) -> Iterator[Schedule]:
    for row in rows:
        try:
            yield _schedule(row)
        except RowDamaged as error:  # the others are shown all the same
            events.emit(events.ROW_DAMAGED, reason=str(error))


def _schedule(row: Row[Any]) -> Schedule:
    """The schedule that the row holds. Raises RowDamaged."""
    with reading(f"schedule {row.id}"):
        return Schedule.model_validate(_members(row))


def _members(row: Row[Any]) -> dict[str, Any]:
    return {
        **from_json(row.options),
        "id": row.id,
        "action": row.action,
        "data": from_json(row.data),
        "cron": row.cron,
        "interval": None if row.interval is None else row.interval / 1000,
        "timezone": row.timezone,
        "missed": row.missed,
        "paused": bool(row.paused),
        "created_at": row.created_at,
        "next_at": _seconds(row.next_at),
        "last_at": _seconds(row.last_at),
        "last_task_id": row.last_task_id,
    }


def _seconds(instant: int | None) -> int | None:
    return None if instant is None else instant // 1000
