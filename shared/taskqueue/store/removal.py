"""What retention takes away: finished tasks that are old, and what became of tasks long ago.

Rows are looked for in the read pool, so that the writer only ever deletes what it is told, and no more at once than it
is told; each write answers how long it has held the writer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from sqlalchemy import Connection, and_, case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import FINAL
from taskqueue.store.orders import remove
from taskqueue.store.tables import changes, tasks

LOOKED_AT: Final = 500
"""Rows that are read at once."""

MAX_CHARACTERS: Final = 1_000_000
"""Of payloads and results that are deleted at once: their pages have to be given back one by one."""

CLOCKS_DIFFER_MS: Final = 3_600_000
"""What is further ahead is no difference between two clocks any more."""

_ended_at = func.coalesce(tasks.c.ended_at, tasks.c.processed_at * 1000)


@dataclass(frozen=True)
class Old:
    """A stretch of the table in the order of acceptance: its finished tasks that are old, each with its size.

    `end` (µs) is where the next stretch begins; None after the last one.
    """

    finished: Sequence[tuple[str, int]]
    end: int | None


async def look_for_old(connection: AsyncConnection, after: int, before: int) -> Old:
    """The stretch that begins after the instant `after` (µs), of tasks that had ended before the instant `before` (ms).

    Tasks of one microsecond that a stretch has no room for are found when the table is walked again.
    """
    characters = func.length(tasks.c.payload) + func.coalesce(func.length(tasks.c.result), 0)
    old = and_(tasks.c.status.in_(FINAL), _ended_at < before)
    query = (
        select(
            tasks.c.id,
            tasks.c.accepted_at,
            case((old, characters)).label("characters"),
        )
        .where(tasks.c.accepted_at > after, tasks.c.accepted_at < before * 1000)
        .order_by(tasks.c.accepted_at)
        .limit(LOOKED_AT)
    )
    rows = (await connection.execute(query)).all()
    finished = [(row.id, row.characters) for row in rows if row.characters is not None]
    return Old(finished, rows[-1].accepted_at if len(rows) == LOOKED_AT else None)


@dataclass(frozen=True)
class Removal:
    """Asks to delete these tasks, if they are finished and had ended before `before` (ms)."""

    ids: Sequence[str]
    before: int


@dataclass(frozen=True)
class Removed:
    """So many rows are gone, and that has held the writer for so many seconds."""

    rows: int
    seconds: float


def remove_old(connection: Connection, items: Sequence[Removal]) -> Sequence[Removed]:
    """Deletes old tasks, with all that belongs to them."""
    return [_remove(connection, item) for item in items]


def _remove(connection: Connection, item: Removal) -> Removed:
    begun = perf_counter()
    gone = remove(connection, item.ids, _ended_at < item.before)
    return Removed(len(gone), perf_counter() - begun)


async def last_before(connection: AsyncConnection, before: int, limit: int, *, now: int) -> int | None:
    """The last of those of the `limit` oldest changes that are from before the instant `before` (ms).

    One from the future was made while a clock was wrong. It goes as well: else all that came after it would stay.
    """
    query = select(changes.c.seq, changes.c.at).order_by(changes.c.seq).limit(limit)
    last = None
    for row in await connection.execute(query):
        if before <= row.at <= now + CLOCKS_DIFFER_MS:
            break
        last = row.seq
    return last


def forget_changes(connection: Connection, items: Sequence[int]) -> Sequence[Removed]:
    """Deletes changes up to and including these."""
    return [_forget(connection, item) for item in items]


def _forget(connection: Connection, last: int) -> Removed:
    begun = perf_counter()
    gone = connection.execute(delete(changes).where(changes.c.seq <= last))
    return Removed(gone.rowcount, perf_counter() - begun)
