"""What an audit asks of the store, in reads that are each short, however many rows there are.

Totals come from one statement, and so from one instant. Rows are walked in the order in which they were written, a
chunk at a time, so that no reader keeps the write-ahead log from being emptied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Select,
    and_,
    bindparam,
    case,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import FINAL, TaskStatus
from taskqueue.store.flaws import FLAWS, Flaw
from taskqueue.store.tables import changes, status_of_row, tallies, tasks, workers
from taskqueue.store.tallies import ACCEPTED, REMOVED

NAMED: Final = 100
"""So many ids are named at most of each kind; all are counted."""

CHANGES_AT_ONCE: Final = 1_000
KEYS_AT_ONCE: Final = 10_000


@dataclass
class Found:
    """So many, and the ids of the first of them."""

    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, count: int, ids: Sequence[str]) -> None:
        """So many more."""
        self.count += count
        self.ids.extend(ids[: NAMED - len(self.ids)])


@dataclass(frozen=True)
class Totals:
    """What there is at one instant; `by_status` includes the `scheduled`, which wait for their time."""

    accepted: int
    removed: int
    by_status: Mapping[str, int]
    scheduled: int

    @property
    def rows(self) -> int:
        """How many tasks there are."""
        return sum(self.by_status.values())


@dataclass(frozen=True)
class Claims:
    """Running tasks: of live workers, and those of workers that are gone. The live perform `concurrency` at once."""

    live: int
    gone: Found
    concurrency: int


_BY_STATUS: Final = select(tasks.c.status, func.count().label("rows")).group_by(tasks.c.status)
_SCHEDULED: Final = select(func.count()).where(
    tasks.c.due_at > bindparam("now"), tasks.c.run_at > bindparam("now"), status_of_row == TaskStatus.PENDING
)
_PLACE: Final = literal_column("tasks.rowid", BigInteger)
_AFTER: Final = bindparam("after", type_=BigInteger)
_CHUNK: Final = (
    select(_PLACE.label("place"), *(case((flaw.condition, 1), else_=0).label(flaw.name) for flaw in FLAWS))
    .select_from(tasks)
    .where(_PLACE > _AFTER)
    .order_by(_PLACE)
    .limit(bindparam("size"))
    .subquery()
)
_FLAWED: Final = select(
    func.count().label("rows"), func.max(_CHUNK.c.place).label("last"), *(func.sum(_CHUNK.c[f.name]) for f in FLAWS)
)


def _ids(flaw: Flaw) -> Select[Any]:
    return (
        select(tasks.c.id)
        .where(_PLACE > _AFTER, bindparam("last") >= _PLACE, flaw.condition)
        .order_by(_PLACE)
        .limit(NAMED)
    )


_LIVE: Final = func.coalesce(workers.c.seen_at, 0) >= bindparam("seen_since")
_RUNNING: Final = tasks.outerjoin(workers, workers.c.name == tasks.c.worker)
_CLAIMED: Final = (
    select(_LIVE.label("live"), func.count().label("rows"))
    .select_from(_RUNNING)
    .where(tasks.c.status == TaskStatus.RUNNING)
    .group_by("live")
)
_CLAIMED_BY_THE_GONE: Final = (
    select(tasks.c.id)
    .select_from(_RUNNING)
    .where(tasks.c.status == TaskStatus.RUNNING, ~_LIVE)
    .order_by(tasks.c.accepted_at)
    .limit(NAMED)
)
_PLACES: Final = select(func.coalesce(func.sum(workers.c.concurrency), 0)).where(_LIVE)
_QUEUED_BEFORE: Final = and_(tasks.c.queued_at < bindparam("made_before"), status_of_row == TaskStatus.QUEUED)
# A task that was deleted may have come again from another producer, under the id that it had.
_IS_ITS_ROW: Final = tasks.c.accepted_at <= changes.c.at * 1000 + 999
_HAS_LEFT: Final = and_(
    changes.c.status.in_([status.value for status in FINAL]),
    _IS_ITS_ROW,
    or_(tasks.c.status != changes.c.status, tasks.c.attempt != changes.c.attempt),
    # A retry by hand forgives all attempts before it.
    or_(changes.c.status == TaskStatus.COMPLETED, tasks.c.forgiven < changes.c.attempt),
)
_TRAIL: Final = (
    select(
        changes.c.seq,
        changes.c.task_id,
        changes.c.status,
        changes.c.attempt,
        tasks.c.id.is_(None).label("has_no_row"),
        case((_HAS_LEFT, 1), else_=0).label("has_left"),
        case((_IS_ITS_ROW, tasks.c.accepted_at), else_=None).label("accepted_at"),
    )
    .select_from(changes.outerjoin(tasks, tasks.c.id == changes.c.task_id))
    .where(changes.c.seq > _AFTER)
    .order_by(changes.c.seq)
    .limit(CHANGES_AT_ONCE)
)
_KEY: Final = tasks.c.idempotency_key
_KEYS: Final = (
    select(_KEY.label("key"), tasks.c.id)
    .where(bindparam("from_key") <= _KEY)
    .order_by(_KEY)
    .limit(bindparam("size"))
    .subquery()
)
_KEYS_END: Final = select(func.count().label("rows"), func.max(_KEYS.c.key).label("last"))
_DOUBLE_KEYS: Final = (
    select(func.count().label("rows"), func.group_concat(_KEYS.c.id).label("ids"))
    .where(_KEYS.c.key != bindparam("but"))
    .group_by(_KEYS.c.key)
    .having(func.count() > 1)
)
_INDEXES: Final = table("sqlite_master", column("name"))
_KEY_INDEX: Final = select(_INDEXES.c.name).where(_INDEXES.c.name == "ix_tasks_idempotency_key")
_ALL: Final = -1  # as a limit


async def totals(connection: AsyncConnection, now: int) -> Totals:
    """What there is at one instant: readers are in a transaction."""
    by_status = {row.status: row.rows for row in await connection.execute(_BY_STATUS)}
    tally = {row.name: row.tally for row in await connection.execute(select(tallies))}
    scheduled = (await connection.execute(_SCHEDULED, {"now": now})).scalar_one()
    return Totals(tally.get(ACCEPTED, 0), tally.get(REMOVED, 0), by_status, scheduled)


async def claims(connection: AsyncConnection, seen_since: int) -> Claims:
    """Who holds what runs; workers that were seen since then (ms) live."""
    since = {"seen_since": seen_since}
    counted = {bool(row.live): row.rows for row in await connection.execute(_CLAIMED, since)}
    gone = list((await connection.execute(_CLAIMED_BY_THE_GONE, since)).scalars())
    places = (await connection.execute(_PLACES, since)).scalar_one()
    return Claims(counted.get(True, 0), Found(counted.get(False, 0), gone), places)


async def queued_before(connection: AsyncConnection, made_before: int) -> Found:
    """The queued tasks whose message was made before this instant (ms)."""
    bound = {"made_before": made_before}
    count = (await connection.execute(select(func.count()).where(_QUEUED_BEFORE), bound)).scalar_one()
    oldest = select(tasks.c.id).where(_QUEUED_BEFORE).order_by(tasks.c.queued_at).limit(NAMED)
    return Found(count, list((await connection.execute(oldest, bound)).scalars()))


async def look_for_flaws(
    connection: AsyncConnection, chunk: Mapping[str, int], found: Mapping[str, Found]
) -> tuple[int, int | None]:
    """Adds what is wrong in a chunk; answers how many rows it had, and where it ended."""
    row = (await connection.execute(_FLAWED, chunk)).one()
    for flaw, count in zip(FLAWS, row[2:], strict=True):
        if count:
            named = await connection.execute(_ids(flaw), {**chunk, "last": row.last})
            found[flaw.name].add(count, list(named.scalars()))
    return row.rows, row.last


async def trail_after(connection: AsyncConnection, after: int) -> Sequence[Any]:
    """The next changes, as `Trail` follows them."""
    return (await connection.execute(_TRAIL, {"after": after})).all()


async def look_for_double_keys(connection: AsyncConnection, start: str, found: Found) -> str | None:
    """Adds those of a stretch of keys; answers where the next one begins. Without the index, all at once."""
    ordered = (await connection.execute(_KEY_INDEX)).first() is not None
    stretch = {"from_key": start, "size": KEYS_AT_ONCE if ordered else _ALL}
    end = (await connection.execute(_KEYS_END, stretch)).one()
    goes_on: bool = end.rows == KEYS_AT_ONCE and end.last != start
    # The last key of a stretch may have more tasks: it begins the next one.
    for row in await connection.execute(_DOUBLE_KEYS, {**stretch, "but": end.last if goes_on else ""}):
        found.add(row.rows, row.ids.split(","))
    return end.last if goes_on else None


async def damage(connection: AsyncConnection) -> Sequence[str]:
    """What SQLite finds wrong with the file, which it reads as a whole; nothing where it is sound."""
    told = (await connection.execute(text("PRAGMA integrity_check"))).scalars()
    return [line for line in told if line != "ok"]
