"""How SQLite finds the rows of each statement: by an index, and by the right one, however many rows there are."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from taskqueue.schema import TaskOptions, TaskStatus
from taskqueue.store.orders import Order
from taskqueue.store.pages import Position, Wanted
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from taskqueue.store.under_way import Lease
from tests.support.builders import a_payload
from tests.support.database import rows
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import LEASE, claim, pending, queued, running

ROWS_OF_EACH_STATUS = 300

Use = Callable[[TaskStore], Awaitable[Any]]


async def _mark(store: TaskStore) -> None:
    await store.mark_queued([Dispatched((await pending(store)).id, 0, START)])


async def _claim(store: TaskStore) -> None:
    await claim(store, await queued(store))


async def _settle(store: TaskStore) -> None:
    await running(store)
    await store.settle(Settlement("a", 1, TaskStatus.COMPLETED, result="1", now=1000))


async def _renew(store: TaskStore) -> None:
    await running(store)
    await store.renew(Lease("a", 1, START + 1))


async def _challenge(store: TaskStore) -> None:
    await claim(store, (await running(store)).payload)


async def _sweep(store: TaskStore) -> None:
    await pending(store)
    await store.take_due(LEASE, max_attempts=5, limit=10)


async def _find_lost(store: TaskStore) -> None:
    await queued(store)
    await store.requeue_lost(made_before=START + 99_999_999)


async def _raise(store: TaskStore) -> None:
    await queued(store)
    assert await store.raise_held_back(made_before=START + 99_999_999, limit=10)


async def _read(store: TaskStore) -> None:
    await store.find("a")
    await store.running_by_worker()
    await store.holder_of("key")
    await store.page()
    await store.waiting(10)


async def _order(store: TaskStore) -> None:
    await queued(store)
    await store.add(a_payload("b"), START, TaskOptions(tags=("x",)))
    await store.cancel_all([Order(task_id, START) for task_id in ("a", "b")])
    await store.retry(Order("a", START))
    await store.erase(Order("b", START))


async def _remove_old(store: TaskStore) -> None:
    await store.look_for_old(0, START + 1)
    await store.remove_old(["a", "b"], START + 1)
    last = await store.last_change_before(START + 1, limit=10)
    assert last is not None
    await store.forget_changes(last)


async def _explain(store: TaskStore) -> None:
    await queued(store)
    assert await store.standing("a")


USES = [_mark, _claim, _settle, _renew, _challenge, _sweep, _find_lost, _raise, _read, _order, _remove_old, _explain]


@pytest.mark.parametrize("use", USES)
async def test_every_statement_finds_its_rows_by_the_right_index(
    store: TaskStore, database: Path, clock: FrozenClock, use: Use
) -> None:
    """Nothing walks the table, or all rows of a status, or sorts: a backlog must not slow down a claim."""
    await _fill(store)
    with _statements(store) as statements:
        await use(store)

    plans = {statement: _plan(database, statement) for statement in statements}
    assert plans
    for statement, plan in plans.items():
        assert not [step for step in plan if _walks(step)], (statement, plan)
        if not statement.startswith("SELECT"):
            assert not [step for step in plan if "ix_tasks_status" in step], (statement, plan)


async def test_lost_leases_are_found_among_what_runs(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Not among all that is due: while the broker is away that is the whole backlog, and the write lock is held."""
    await _fill(store)
    await running(store)
    clock.advance(LEASE)
    with _statements(store) as statements:
        await store.take_due(LEASE, max_attempts=5, limit=0)

    (plan,) = [_plan(database, statement) for statement in statements if "cancel_requested_at " in statement]
    assert BY_STATUS in plan[0]


TWO = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})
BY_TIME, BY_STATUS = "ix_tasks_accepted_at", "ix_tasks_status_accepted_at"
BY_ACTION, BY_TAG = "ix_tasks_action_accepted_at", "SEARCH task_tags USING PRIMARY KEY (tag=?"
PAGES = {
    "everything": (Wanted(), [BY_TIME]),
    "a status": (Wanted(frozenset({TaskStatus.FAILED})), [BY_STATUS]),
    "statuses": (Wanted(TWO), [BY_STATUS] * 2),
    "every status": (Wanted(frozenset(TaskStatus)), [BY_STATUS] * 6),
    "an action": (Wanted(action="resize"), [BY_ACTION]),
    "an action and statuses": (Wanted(TWO, action="resize"), [BY_ACTION, BY_STATUS]),
    "a tag": (Wanted(tag="x"), [BY_TAG]),
    "a tag and an action": (Wanted(tag="x", action="resize"), [BY_TAG, BY_ACTION]),
    "a tag and statuses": (Wanted(TWO, tag="x"), [BY_TAG, BY_STATUS]),
    "a tag, an action and statuses": (Wanted(TWO, tag="x", action="resize"), [BY_TAG, BY_ACTION]),
}


@pytest.mark.parametrize("what", PAGES)
async def test_every_page_takes_its_candidates_in_order_by_the_best_index(
    store: TaskStore, database: Path, what: str
) -> None:
    """Whatever is asked for, from wherever on: no walk, no sort, and the first index is the one that narrows most."""
    wanted, indexes = PAGES[what]
    await _fill(store)
    for since, until, after in product((None, 1), (None, START * 1001), (None, Position(START * 1000 + 500, "id"))):
        with _statements(store) as statements:
            await store.page(replace(wanted, since=since, until=until), after=after)

        plans = [_plan(database, statement) for statement in statements]
        assert not [step for plan in plans for step in plan if _walks(step)], plans
        steps = [step for step in plans[0] if "USING" in step]
        assert [index in step for index, step in zip(indexes, steps, strict=False)] == [True] * len(indexes), plans[0]


def _walks(step: str) -> bool:
    in_order = "SCAN tasks USING INDEX ix_tasks_accepted_at" in step  # the newest, from the end of an index
    sorts = "TEMP B-TREE" in step and "LAST TERM" not in step  # that sorts those of one microsecond
    return sorts or ("SCAN task" in step and not in_order)


async def _fill(store: TaskStore) -> None:
    for status in TaskStatus:
        for number in range(ROWS_OF_EACH_STATUS):
            await store.add(a_payload(f"{status}-{number}"), due_at=START + 10**12)
    with store._writer._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tasks SET status = substr(id, 1, instr(id, '-') - 1)")
        connection.exec_driver_sql("UPDATE tasks SET due_at = NULL WHERE status NOT IN ('pending', 'running')")
        connection.exec_driver_sql("UPDATE tasks SET queued_at = 9e15 WHERE status = 'queued'")


@contextmanager
def _statements(store: TaskStore) -> Iterator[list[str]]:
    """Every statement that SQLite runs for the store during the block, its values written out."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            seen.append(statement)

    def trace_reader(connection: Any, *_: object) -> None:
        connection.driver_connection._conn.set_trace_callback(note)

    readers = store._readers.sync_engine.pool
    writer: Any = store._writer._engine.raw_connection().driver_connection
    event.listen(readers, "checkout", trace_reader)
    writer.set_trace_callback(note)
    try:
        yield seen
    finally:
        writer.set_trace_callback(None)
        event.remove(readers, "checkout", trace_reader)


def _plan(database: Path, statement: str) -> list[str]:
    return [str(json.dumps(step)) for *_, step in rows(database, f"EXPLAIN QUERY PLAN {statement}")]
