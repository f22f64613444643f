"""Pages of tasks, newest first: each costs the same, however many tasks there are, whatever is asked for.

A page takes candidates in order through the one index that narrows them best, and looks at a bounded number of them for
the rest of what is asked for. A page that ended at that bound is shorter, perhaps empty, and says where to go on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, CompoundSelect, Select, Subquery, desc, exists, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue import events
from taskqueue.errors import RowDamaged
from taskqueue.schema import Task, TaskStatus
from taskqueue.store import shown
from taskqueue.store.batch import Batch
from taskqueue.store.statements import Query
from taskqueue.store.tables import task_tags, tasks

PAGE: Final = 100
PAGE_CHARACTERS: Final = 2_000_000
"""Of payloads, results and histories on one page: each is many times as large in memory."""

CANDIDATES: Final = 10_000
_ROWS_AT_ONCE: Final = 10

_Query = Select[Any] | CompoundSelect[Any]


@dataclass(frozen=True)
class Wanted:
    """Which tasks are asked for. Both instants, of acceptance, are in microseconds; `until` is not within."""

    statuses: frozenset[TaskStatus] = frozenset()
    action: str | None = None
    tag: str | None = None
    since: int | None = None
    until: int | None = None


EVERYTHING: Final = Wanted()


@dataclass(frozen=True)
class Position:
    """Where a page ended: the next one begins with the tasks before it."""

    accepted_at: int
    id: str


@dataclass(frozen=True)
class Page:
    """Tasks, newest first, and where to go on, unless these were the last."""

    tasks: Sequence[Task]
    next: Position | None = None


@dataclass(frozen=True)
class Stretch:
    """The ids of tasks, newest first, and where to go on, unless these were the last."""

    ids: Sequence[str]
    next: Position | None = None


async def stretch(connection: AsyncConnection, wanted: Wanted, limit: int, after: Position | None) -> Stretch:
    """What a page has, as ids alone; fewer than `limit`, or none, where they are rare among the candidates."""
    candidates = _candidates(wanted, after)
    found = await _positions(connection, _matching(candidates, wanted).limit(limit))
    ids = [position.id for position in found]
    if len(found) == limit:
        return Stretch(ids, found[-1])
    bound = await _positions(connection, candidates.offset(CANDIDATES - 1).limit(1))
    return Stretch(ids, bound[0] if bound else None)


async def page(connection: AsyncConnection, wanted: Wanted, limit: int, after: Position | None) -> Page:
    """Up to `limit` tasks, and fewer where they are large, or rare among the candidates."""
    candidates = _candidates(wanted, after)
    found = await _positions(connection, _matching(candidates, wanted).limit(limit + 1))
    listed, last = await _read(connection, found[:limit])
    if last < len(found):
        return Page(listed, found[last - 1])
    # Of the same transaction, and so of the same candidates.
    bound = await _positions(connection, candidates.offset(CANDIDATES - 1).limit(1))
    return Page(listed, bound[0] if bound else None)


def _candidates(wanted: Wanted, after: Position | None) -> _Query:
    """All that may be asked for, in the order of the index that narrows it best."""
    if wanted.tag is not None:
        columns = (task_tags.c.accepted_at, task_tags.c.task_id)
        return _in_order(columns, [task_tags.c.tag == wanted.tag], wanted, after)
    columns = (tasks.c.accepted_at, tasks.c.id)
    if wanted.action is not None:
        return _in_order(columns, [tasks.c.action == wanted.action], wanted, after)
    return _in_order(columns, [tasks.c.status == status for status in sorted(wanted.statuses)], wanted, after)


def _in_order(
    columns: tuple[Column[Any], Column[Any]],
    alternatives: Sequence[ColumnElement[bool]],
    wanted: Wanted,
    after: Position | None,
) -> _Query:
    """The rows of each alternative, merged: each has them in order by an index, and one search for all would sort."""
    accepted_at, id_ = columns
    rows = select(accepted_at.label("accepted_at"), id_.label("id")).where(*_bounds(accepted_at, id_, wanted, after))
    if len(alternatives) > 1:
        merged = union_all(*(rows.where(alternative) for alternative in alternatives))
        return merged.order_by(desc("accepted_at"), desc("id"))
    return rows.where(*alternatives).order_by(accepted_at.desc(), id_.desc())


def _bounds(
    accepted_at: Column[Any], id_: Column[Any], wanted: Wanted, after: Position | None
) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield accepted_at >= wanted.since
    if wanted.until is not None:
        yield accepted_at < wanted.until
    if after is not None:
        yield accepted_at <= after.accepted_at
        yield or_(accepted_at < after.accepted_at, id_ < after.id)


def _matching(candidates: _Query, wanted: Wanted) -> _Query:
    """Those of the candidates that are asked for, in the same order: SQLite reads them as they come."""
    rest = []
    if wanted.tag is not None and wanted.action is not None:
        rest.append(tasks.c.action == wanted.action)
    if wanted.statuses and (wanted.tag is not None or wanted.action is not None):
        rest.append(tasks.c.status.in_(sorted(wanted.statuses)))
    if not rest:
        return candidates
    looked_at = candidates.limit(CANDIDATES).subquery()
    return select(looked_at.c.accepted_at, looked_at.c.id).where(*(_holds(looked_at, each) for each in rest))


def _holds(looked_at: Subquery, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the candidate's row is so, by the index of this condition and `accepted_at`.

    Its row would be found by its id as well, but a status stands behind the payload, which can be a megabyte long.
    """
    return exists().where(
        condition, tasks.c.accepted_at == looked_at.c.accepted_at, tasks.c.id.concat("") == looked_at.c.id
    )


async def _positions(connection: AsyncConnection, query: _Query) -> list[Position]:
    return [Position(row.accepted_at, row.id) for row in await connection.execute(query)]


_ids = Batch("id")
_TASKS = Query(shown.SHOWN.where(tasks.c.id.in_(select(_ids["id"]).select_from(_ids.table))))


async def _read(connection: AsyncConnection, found: Sequence[Position]) -> tuple[list[Task], int]:
    """The tasks at these positions, as many as a page may hold, and how many positions that were."""
    listed: list[Task] = []
    characters = 0
    for start in range(0, len(found), _ROWS_AT_ONCE):
        ids = [position.id for position in found[start : start + _ROWS_AT_ONCE]]
        rows = {row.id: vars(row) for row in await _TASKS.rows(connection, **Batch.of([task_id] for task_id in ids))}
        for number, row in enumerate(map(rows.get, ids), start + 1):
            if row is None:
                continue  # a tag that has outlived its task
            try:
                listed.append(shown.task(row))
            except RowDamaged as error:  # the others are shown all the same
                events.emit(events.ROW_DAMAGED, reason=str(error))
            characters += shown.characters(row)
            if characters >= PAGE_CHARACTERS:
                return listed, number
    return listed, len(found)
