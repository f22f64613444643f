"""The roster of workers: each enters itself, says every few seconds that it is there, and leaves when it stops.

What an entry tells of a worker never changes: who has read it knows it for as long as name and `started_at` are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.statements import BatchWrite, Query
from taskqueue.store.tables import tasks, workers

LIVE_MS: Final = 15_000
"""A worker that was not seen for so long counts as gone: three times what lies between two beats."""

FORGET_MS: Final = 86_400_000
"""An entry that nobody has kept for a day is removed when another one is made."""

RUNNING_LIMIT: Final = 1_000
"""Of running tasks that are listed at once, of all workers together."""


@dataclass(frozen=True)
class OfferedAction:
    """What a worker tells of an action. Its data must fit `schema`, a JSON Schema, where there is one."""

    description: str = ""
    schema: Mapping[str, Any] | None = None


_OFFERED: Final = TypeAdapter(dict[str, OfferedAction])


@dataclass(frozen=True)
class Entry:
    """A worker as it presents itself at `now`; it performs `concurrency` tasks at once. Instants in ms."""

    name: str
    started_at: int
    now: int
    concurrency: int
    actions: Mapping[str, OfferedAction]


_ENTRY = ("name", "started_at", "seen_at", "concurrency", "actions")
_entries = Batch(*_ENTRY)
_NEW_ENTRIES = insert(workers).from_select(
    _ENTRY,
    select(*(_entries[column] for column in _ENTRY))
    .select_from(_entries.table)
    .where(_entries.table.c.value.is_not(None)),
)
# A container that is started again has the name that it had.
_ENTER = BatchWrite(
    _NEW_ENTRIES.on_conflict_do_update(
        index_elements=[workers.c.name], set_={column: _NEW_ENTRIES.excluded[column] for column in _ENTRY[1:]}
    )
)


def enter(connection: Connection, items: Sequence[Entry]) -> Sequence[None]:
    """Makes entries, and removes those that nobody has kept for a day."""
    connection.execute(delete(workers).where(workers.c.seen_at < max(item.now for item in items) - FORGET_MS))
    # Of two entries of one name, the last counts: one statement cannot change a row twice.
    entries = {item.name: item for item in items}.values()
    _ENTER.run(connection, map(_entry_row, entries))
    return [None] * len(items)


def _entry_row(item: Entry) -> tuple[object, ...]:
    actions = to_json(dict(item.actions)).decode()
    return item.name, item.started_at, item.now, item.concurrency, actions


@dataclass(frozen=True)
class Presence:
    """The worker that entered itself at `started_at` is there at `now`. Instants in ms."""

    name: str
    started_at: int
    now: int


_presences = Batch("name", "started_at", "now")
_KEEP = BatchWrite(
    update(workers)
    .where(workers.c.name == _presences["name"], workers.c.started_at == _presences["started_at"])
    .values(seen_at=_presences["now"])
    .returning(workers.c.name, workers.c.started_at)
)


def keep(connection: Connection, items: Sequence[Presence]) -> Sequence[bool]:
    """Notes that workers are there; False where there is no such entry, or not any more."""
    rows = _KEEP.run(connection, ((item.name, item.started_at, item.now) for item in items))
    kept = {(row.name, row.started_at) for row in rows}
    return [(item.name, item.started_at) in kept for item in items]


def leave(connection: Connection, items: Sequence[Presence]) -> Sequence[None]:
    """Removes the entries of workers that stop."""
    for item in items:
        connection.execute(delete(workers).where(workers.c.name == item.name, workers.c.started_at == item.started_at))
    return [None] * len(items)


@dataclass(frozen=True)
class LiveWorker:
    """A worker that was seen at `seen_at`. Instants in ms."""

    name: str
    started_at: int
    seen_at: int
    concurrency: int
    actions: Mapping[str, OfferedAction]


_ROLL = Query(select(workers.c.name, workers.c.started_at).where(workers.c.seen_at >= bindparam("since")))


async def roll_call(connection: AsyncConnection, now: int) -> frozenset[tuple[str, int]]:
    """Name and `started_at` of every live worker: what must be known to know whether anything has changed."""
    return frozenset((row.name, row.started_at) for row in await _ROLL.rows(connection, since=now - LIVE_MS))


async def live_workers(connection: AsyncConnection, now: int) -> Sequence[LiveWorker]:
    """Every live worker, by name."""
    query = select(workers).where(workers.c.seen_at >= now - LIVE_MS).order_by(workers.c.name)
    return [
        LiveWorker(row.name, row.started_at, row.seen_at, row.concurrency, _offered(row.actions))
        for row in await connection.execute(query)
    ]


async def running_by_worker(connection: AsyncConnection) -> Mapping[str, Sequence[str]]:
    """The ids of running tasks by the name of their worker, oldest first; not more than RUNNING_LIMIT in all."""
    query = (
        select(tasks.c.worker, tasks.c.id)
        .where(tasks.c.status == TaskStatus.RUNNING)
        .order_by(tasks.c.accepted_at)
        .limit(RUNNING_LIMIT)
    )
    running: dict[str, list[str]] = {}
    for row in await connection.execute(query):
        running.setdefault(row.worker, []).append(row.id)
    return running


def _offered(text: str) -> Mapping[str, OfferedAction]:
    try:
        return _OFFERED.validate_json(text)
    except ValidationError:  # of a version that tells it another way
        return {}
