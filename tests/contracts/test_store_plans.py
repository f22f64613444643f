"""How SQLite finds the rows of each statement: by an index, and by the right one, however many rows there are."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from taskqueue.schema import TaskOptions, TaskStatus
from taskqueue.store.orders import Order
from taskqueue.store.tasks import TaskStore
from taskqueue.store.writes import Dispatched, Lease, Settlement
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


async def _read(store: TaskStore) -> None:
    await store.find("a")
    await store.newest()
    await store.newest(TaskStatus.FAILED)


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


USES = [_mark, _claim, _settle, _renew, _challenge, _sweep, _find_lost, _read, _order, _remove_old]


@pytest.mark.parametrize("use", USES)
async def test_every_statement_finds_its_rows_by_the_right_index(
    store: TaskStore, database: Path, clock: FrozenClock, use: Use
) -> None:
    """Nothing walks the table, or all rows of a status, or sorts: a backlog must not slow down a claim."""
    await _fill(store)
    with _statements(store) as statements:
        await use(store)

    plans = {statement: _plan(database, statement, values) for statement, values in statements}
    assert plans
    for statement, plan in plans.items():
        assert not [step for step in plan if _walks(step)], (statement, plan)
        if not statement.startswith("SELECT"):
            assert not [step for step in plan if "ix_tasks_status" in step], (statement, plan)


def _walks(step: str) -> bool:
    in_order = "SCAN tasks USING INDEX ix_tasks_accepted_at" in step  # the newest, from the end of an index
    return "TEMP B-TREE" in step or ("SCAN task" in step and not in_order)


async def _fill(store: TaskStore) -> None:
    for status in TaskStatus:
        for number in range(ROWS_OF_EACH_STATUS):
            await store.add(a_payload(f"{status}-{number}"), due_at=START + 10**12)
    with store._writer._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tasks SET status = substr(id, 1, instr(id, '-') - 1)")
        connection.exec_driver_sql("UPDATE tasks SET due_at = NULL WHERE status NOT IN ('pending', 'running')")
        connection.exec_driver_sql("UPDATE tasks SET queued_at = 9e15 WHERE status = 'queued'")


@contextmanager
def _statements(store: TaskStore) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the store runs during the block, with its values."""
    seen: list[tuple[str, Any]] = []

    def note(*happening: Any) -> None:
        _, _, statement, values, *_ = happening
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            seen.append((statement, values))

    engines = [store._writer._engine, store._readers.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def _plan(database: Path, statement: str, values: Any) -> list[str]:
    return [str(json.dumps(step)) for *_, step in rows(database, f"EXPLAIN QUERY PLAN {statement}", *values)]
