"""Rows that hold what this system never wrote: each is left aside, said once, and stops no other."""

import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskqueue.errors import RowDamaged
from taskqueue.retention import Retention
from taskqueue.schedule import ScheduleRequest
from taskqueue.schema import TaskStatus
from taskqueue.store.schedules import Kept
from taskqueue.store.tasks import TaskStore
from tests.support.database import change, rows
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import DISPATCH_LEASE, LEASE, final, pending, queued

OLD_DAYS: Final = 8
SCHEDULE_COLUMNS: Final = (
    *("action", "data", "options", "cron", "interval", "timezone"),
    *("missed", "paused", "created_at", "next_at", "last_at", "last_task_id"),
)
NULL_WORDS: Final = ("[]", "{}", "null", "7", "{", '{"priority": "x"}', "NaN", "")
DAMAGE: Final = st.one_of(
    st.sampled_from(NULL_WORDS),
    st.text(max_size=5),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.integers(min_value=-10, max_value=10),
    st.binary(max_size=3),
    st.floats(),
    st.none(),
)


NO_MESSAGE: Final = '{"id": "bad", "action": "", "data": {}, "created_at": -1}'
"""A payload that can be read, and that no message can carry."""


@pytest.mark.parametrize("payload", ["", "{", "[]", '{"id": 7}', "\x00", NO_MESSAGE])
async def test_a_damaged_task_does_not_stop_the_sweep(
    store: TaskStore, database: Path, clock: FrozenClock, payload: str
) -> None:
    """Though it is the first one that is due, and at each lease again."""
    await pending(store, "bad", START - 1)
    await pending(store, "good", START)
    change(database, "UPDATE tasks SET payload = ? WHERE id = 'bad'", payload)

    for _ in range(2):
        taken = await store.take_due(DISPATCH_LEASE, max_attempts=3, limit=10)
        assert [ready.payload.id for ready in taken.ready] == ["good"]
        clock.advance(DISPATCH_LEASE / 1000)

    assert rows(database, "SELECT status FROM tasks WHERE id = 'bad'") == [("pending",)]


@pytest.mark.parametrize(
    "damage", ["payload = '{'", "tags = '[7]'", "history = '{'", "status = 'unheard of'", "result = '{'"]
)
async def test_a_damaged_task_is_left_out_of_its_page(store: TaskStore, database: Path, damage: str) -> None:
    """The others are shown, and there is a page after it; asked for alone, it is an error that has a name."""
    for number in range(3):
        await pending(store, f"t{number}")
    change(database, f"UPDATE tasks SET {damage} WHERE id = 't1'")  # noqa: S608 - of our own making

    first = await store.page(limit=2)
    second = await store.page(limit=2, after=first.next)

    assert [task.id for task in (*first.tasks, *second.tasks)] == ["t2", "t0"]
    with pytest.raises(RowDamaged, match="t1"):
        await store.find("t1")


@pytest.mark.parametrize("tags", ["{", "7", '[{"a": 1}]'])
async def test_damaged_tags_do_not_stop_retention(
    store: TaskStore, database: Path, clock: FrozenClock, tags: str
) -> None:
    """Nor a deletion by hand: it is the same code."""
    for name in ("bad", "good"):
        await final(store, TaskStatus.COMPLETED, name)
    change(database, "UPDATE tasks SET tags = ? WHERE id = 'bad'", tags)
    clock.advance(OLD_DAYS * 86_400)

    await Retention(store, clock, days=7).remove_old()

    assert rows(database, "SELECT id FROM tasks") == []


async def test_a_change_to_an_unknown_status_does_not_stop_who_follows(store: TaskStore, database: Path) -> None:
    """A later version may know more of them than this one."""
    for name in ("a", "b", "c"):
        await pending(store, name)
    change(database, "UPDATE changes SET status = 'paused' WHERE task_id = 'b'")

    told = await store.changes_after(0, 10, 10)

    assert [event.change.task_id for event in told] == ["a", "c"]


async def test_a_damaged_entry_in_the_roster_does_not_stop_an_explanation(store: TaskStore, database: Path) -> None:
    """That worker offers nothing, and is there all the same."""
    await queued(store)
    for name in ("bad", "good"):
        await store.enter_worker(name, 1, 1, {})
    change(database, "UPDATE workers SET actions = '{' WHERE name = 'bad'")

    standing = await store.standing("a")

    assert standing is not None
    assert standing.neighbours.workers == 2
    assert [worker.name for worker in await store.live_workers()] == ["bad", "good"]


async def test_a_damaged_schedule_is_left_out_of_the_list(store: TaskStore, database: Path) -> None:
    """It can be deleted."""
    for name in ("bad", "good"):
        await _kept(store, name)
    change(database, "UPDATE schedules SET options = '[]' WHERE id = 'bad'")

    assert [schedule.id for schedule in (await store.schedules()).schedules] == ["good"]
    with pytest.raises(RowDamaged, match="bad"):
        await store.find_schedule("bad")
    assert await store.forget_schedule("bad")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.sampled_from(SCHEDULE_COLUMNS), value=DAMAGE)
async def test_whatever_a_schedule_s_row_holds_the_others_tick(
    store: TaskStore, database: Path, clock: FrozenClock, column: str, value: Any
) -> None:
    """Column by column, with values of every type."""
    for name in ("bad", "good"):
        await store.forget_schedule(name)
        await _kept(store, name, clock())
    try:
        change(database, f"UPDATE schedules SET {column} = ? WHERE id = 'bad'", value)  # noqa: S608 - a name of ours
    except (sqlite3.IntegrityError, UnicodeEncodeError):
        return  # the database itself does not hold this
    clock.advance(61)

    made = await store.tick_schedules(LEASE)

    last = rows(database, "SELECT last_task_id FROM schedules WHERE id = 'good'")
    assert last[0][0] in [ready.payload.id for ready in made]
    assert "good" in [schedule.id for schedule in (await store.schedules()).schedules]


async def _kept(store: TaskStore, schedule_id: str, now: int = START) -> None:
    request = ScheduleRequest.of({"action": "a", "interval": 60})
    await store.keep_schedule(Kept(schedule_id, request, now, now + 60_000))
