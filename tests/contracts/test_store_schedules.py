"""Schedules in the store: exactly one task a tick, whoever finds that it is due."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from taskqueue.schedule import ScheduleRequest
from taskqueue.store.schedules import Kept
from taskqueue.store.tasks import TaskStore
from tests.support.database import change, rows
from tests.support.frozen_clock import START, FrozenClock

LEASE = 8_000
MINUTE = 60_000


async def test_a_due_schedule_makes_a_task_and_moves_on(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """The task is what the schedule asks for, and says which one made it."""
    await _kept(store, interval=60, data={"n": 1}, tags=["x"], priority=9, timeout=2)
    clock.advance(60)

    (ready,) = await store.tick_schedules(LEASE)

    assert (ready.payload.action, ready.payload.data, ready.priority) == ("a", {"n": 1}, 5)
    assert rows(database, "SELECT id, status, due_at, schedule_id, timeout, tags FROM tasks") == [
        (ready.payload.id, "pending", clock() + LEASE, "s", 2_000, '["x"]')
    ]
    assert rows(database, "SELECT next_at, last_at, last_task_id FROM schedules") == [
        (START + 2 * MINUTE, START + MINUTE, ready.payload.id)
    ]
    assert await store.tick_schedules(LEASE) == []


async def test_however_many_look_each_tick_makes_one_task(
    store: TaskStore, other_store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """Two processes, many sweeps at once, many ticks."""
    for number in range(3):
        await _kept(store, f"s{number}", interval=60)
    for _ in range(5):
        clock.advance(60)
        await asyncio.gather(*(each.tick_schedules(LEASE) for _ in range(10) for each in (store, other_store)))

    made = rows(database, "SELECT schedule_id, count(*), count(DISTINCT accepted_at) FROM tasks GROUP BY 1 ORDER BY 1")
    assert made == [("s0", 5, 5), ("s1", 5, 5), ("s2", 5, 5)]


async def test_missed_ticks_make_one_task_or_none(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Nobody was there for three days."""
    await _kept(store, "run", interval=3_600)
    await _kept(store, "skip", interval=3_600, missed="skip")
    clock.advance(3 * 86_400 + 1_800)

    await store.tick_schedules(LEASE)

    assert rows(database, "SELECT schedule_id FROM tasks") == [("run",)]
    assert rows(database, "SELECT DISTINCT next_at FROM schedules") == [(START + 73 * 60 * MINUTE,)]


async def test_a_paused_schedule_makes_nothing(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Until it is resumed; then from that instant on."""
    kept = await _kept(store, interval=60)
    paused = ScheduleRequest.of({"action": "a", "interval": 60, "paused": True})
    assert await _changed(store, Kept("s", paused, START, None))
    clock.advance(150)
    assert await store.tick_schedules(LEASE) == []

    assert await _changed(store, Kept("s", kept.request, START, kept.request.first_after(clock(), START)))

    assert rows(database, "SELECT next_at FROM schedules") == [(START + 3 * MINUTE,)]


async def test_a_change_of_something_else_keeps_the_tick_that_is_due(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """It would get lost if the next tick were reckoned anew from now."""
    kept = await _kept(store, interval=60)
    clock.advance(61)

    changed = ScheduleRequest.of({"action": "b", "interval": 60})
    assert await _changed(store, Kept("s", changed, START, kept.request.first_after(clock(), START)))

    (ready,) = await store.tick_schedules(LEASE)
    assert ready.payload.action == "b"


async def test_a_schedule_that_cannot_be_read_stops_and_stops_no_other(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """A zone may be gone after an upgrade."""
    await _kept(store, "bad", cron="* * * * *")
    await _kept(store, "good", cron="* * * * *")
    change(database, "UPDATE schedules SET timezone = 'Gone/Away' WHERE id = 'bad'")
    clock.advance(60)

    made = await store.tick_schedules(LEASE)

    assert len(made) == 1
    assert rows(database, "SELECT id FROM schedules WHERE next_at IS NULL") == [("bad",)]


async def test_a_row_that_is_damaged_stops_no_other(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Whatever is in it."""
    await _kept(store, "bad", cron="* * * * *")
    await _kept(store, "good", cron="* * * * *")
    change(database, "UPDATE schedules SET options = '[]' WHERE id = 'bad'")
    clock.advance(60)

    assert len(await store.tick_schedules(LEASE)) == 1


async def test_a_stopped_schedule_begins_anew_when_it_is_changed(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """In whatever way; a resume is one."""
    kept = await _kept(store, interval=60)
    change(database, "UPDATE schedules SET next_at = NULL")

    assert await _changed(store, Kept("s", kept.request, START, kept.request.first_after(clock(), START)))

    assert rows(database, "SELECT next_at FROM schedules") == [(START + MINUTE,)]


async def test_of_two_changes_of_what_was_read_one_holds(store: TaskStore) -> None:
    """The other one has to read again, and loses nothing of the first."""
    kept = await _kept(store, interval=60)
    was = await store.find_schedule("s")
    assert was is not None
    other = ScheduleRequest.of({"action": "b", "interval": 60})

    assert await store.change_schedule(was, Kept("s", other, START, kept.next_at))
    assert not await store.change_schedule(was, kept)


@pytest.mark.parametrize("missed", ["run", "skip"])
@pytest.mark.parametrize("made", ["2026-10-24T12:00:00+00:00", "2026-10-25T01:05:00+00:00"])
async def test_the_hour_that_is_repeated_makes_no_tick_twice(
    store: TaskStore, database: Path, clock: FrozenClock, made: str, missed: str
) -> None:
    """In Berlin it is 02:05 for the second time; 02:30 was an hour ago less five minutes."""
    made_at = round(datetime.fromisoformat(made).timestamp() * 1000)
    clock.advance((round(datetime.fromisoformat("2026-10-25T01:05:00+00:00").timestamp() * 1000) - clock()) / 1000)
    members = {"action": "a", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "missed": missed}
    request = ScheduleRequest.of(members)
    await store.keep_schedule(Kept("s", request, made_at, request.first_after(made_at, made_at)))

    for _ in range(10):
        await store.tick_schedules(LEASE)
        clock.advance(1)

    assert len(rows(database, "SELECT id FROM tasks")) == (made.startswith("2026-10-24") and missed == "run")


async def test_a_forgotten_schedule_leaves_its_tasks(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """They are tasks like any other."""
    await _kept(store, interval=60)
    clock.advance(60)
    await store.tick_schedules(LEASE)

    assert await store.forget_schedule("s")

    assert not await store.forget_schedule("s")
    assert await store.find_schedule("s") is None
    assert len(rows(database, "SELECT id FROM tasks")) == 1


async def _kept(store: TaskStore, schedule_id: str = "s", **members: Any) -> Kept:
    request = ScheduleRequest.of({"action": "a", **members})
    kept = Kept(schedule_id, request, START, request.first_after(START, START))
    await store.keep_schedule(kept)
    return kept


async def _changed(store: TaskStore, kept: Kept) -> bool:
    was = await store.find_schedule(kept.id)
    assert was is not None
    return await store.change_schedule(was, kept)
