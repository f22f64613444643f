"""What retention promises: what is finished and old goes, nothing else does, and the writer is never held for long."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskqueue import retention
from taskqueue.broker.memory import MemoryBroker
from taskqueue.errors import StoreUnavailable
from taskqueue.retention import DAY_SECONDS, Retention
from taskqueue.schema import TaskOptions, TaskStatus
from taskqueue.store import removal
from taskqueue.store.pace import Pace
from taskqueue.store.removal import Removed
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from taskqueue.sweep import dispatching
from tests.support.builders import a_payload
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.frozen_clock import FrozenClock
from tests.support.stored import claim, pending, queued, running

FINAL = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED]
TAGGED = TaskOptions(tags=("x",))


@pytest.fixture(autouse=True)
def _without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is there."""
    monkeypatch.setattr(retention, "REST_SECONDS", 0)


async def test_what_is_finished_and_old_goes(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """In each final status, with its tags; what ended within the time stays, however long ago it was accepted."""
    for status in FINAL:
        await _finished(store, f"old {status}", status)
    await _accepted(store, "long under way")
    clock.advance(5 * DAY_SECONDS)
    await _settled(store, "long under way", TaskStatus.COMPLETED)
    await _finished(store, "young", TaskStatus.COMPLETED)

    await Retention(store, clock, days=5).remove_old()
    assert len(_ids(database)) == 5
    clock.advance(0.001)
    await Retention(store, clock, days=5).remove_old()

    assert _ids(database) == {"long under way", "young"}
    assert {task_id for (task_id,) in rows(database, "SELECT task_id FROM task_tags")} == {"long under way", "young"}


async def test_what_is_unfinished_stays_however_old(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Somebody waits for it."""
    await pending(store, "pending")
    await queued(store, "queued")
    await running(store, "running")
    clock.advance(1_000 * DAY_SECONDS)

    await Retention(store, clock, days=1).remove_old()

    assert _ids(database) == {"pending", "queued", "running"}


async def test_zero_keeps_all_tasks(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Only the record of changes is cut, since nobody resumes from a day ago."""
    await _finished(store, "a", TaskStatus.COMPLETED)
    clock.advance(36_500 * DAY_SECONDS)

    await Retention(store, clock, days=0).remove_old()

    assert _ids(database) == {"a"}
    assert not rows(database, "SELECT * FROM changes")


@pytest.mark.parametrize(("days", "kept_days"), [(30, 1), (0, 1), (0.25, 0.25)])
async def test_changes_are_kept_for_a_day_or_the_retention(
    store: TaskStore, database: Path, clock: FrozenClock, days: float, kept_days: float
) -> None:
    """Whichever is shorter; and the numbers of later ones go on where they were."""
    for number in range(25):
        await pending(store, f"old {number}")
    clock.advance(kept_days * DAY_SECONDS)
    await pending(store, "young")
    clock.advance(0.001)

    await Retention(store, clock, days).remove_old()

    assert rows(database, "SELECT seq, task_id FROM changes") == [(26, "young")]
    clock.advance(2 * DAY_SECONDS)
    await Retention(store, clock, days).remove_old()
    await pending(store, "next")
    assert rows(database, "SELECT seq, task_id FROM changes") == [(27, "next")]


async def test_changes_that_a_wrong_clock_made_do_not_keep_those_after_them(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """For a while it was ten years ahead; some seconds of difference between two processes are no wrong clock."""
    await pending(store, "before")
    clock.advance(3_650 * DAY_SECONDS)
    for number in range(25):
        await pending(store, f"ahead {number}")
    clock.advance(-3_649.5 * DAY_SECONDS)
    await pending(store, "after")
    clock.advance(0.6 * DAY_SECONDS)
    await pending(store, "young")
    clock.advance(-5)

    await Retention(store, clock, days=30).remove_old()
    assert rows(database, "SELECT task_id FROM changes") == [("after",), ("young",)]

    clock.advance(1.1 * DAY_SECONDS)
    await Retention(store, clock, days=30).remove_old()
    assert rows(database, "SELECT task_id FROM changes") == []


async def test_no_commit_removes_more_than_the_pace_allows(
    store: TaskStore, database: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever there is to remove: the writer is free for others in between."""
    monkeypatch.setattr(Pace, "most", 20)
    monkeypatch.setattr(removal, "LOOKED_AT", 70)
    await _many(store, database, 500)
    clock.advance(2 * DAY_SECONDS)
    commits = _rows_a_commit(store, monkeypatch)

    await Retention(store, clock, days=1).remove_old()

    assert _ids(database) == set()
    assert max(commits) <= 20
    assert sum(commits) == 500


async def test_large_tasks_go_a_few_at_a_time(
    store: TaskStore, database: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rows: their pages have to be given back one by one."""
    await _many(store, database, 12)
    change(database, "UPDATE tasks SET result = ?", "x" * 400_000)
    clock.advance(2 * DAY_SECONDS)
    commits = _rows_a_commit(store, monkeypatch)

    await Retention(store, clock, days=1).remove_old()

    assert commits == [2] * 6


def test_the_pace_follows_the_time_that_the_last_chunk_took() -> None:
    """It doubles where there was time left, halves where it was exceeded, and stays within its bounds."""
    pace = Pace(hold=0.02)
    seen = []
    for seconds in (0.001, 0.001, 0.01, 0.03, 0.03, 0.03, *[0.001] * 10):
        pace.note(pace.rows, seconds)
        seen.append(pace.rows)

    assert seen == [20, 40, 40, 20, 10, 10, 20, 40, 80, 160, 320, 500, 500, 500, 500, 500]


async def test_a_store_that_fails_does_not_end_retention(
    store: TaskStore, database: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next round tries again."""
    monkeypatch.setattr(retention, "RETENTION_SECONDS", 0.01)
    await _finished(store, "a", TaskStatus.COMPLETED)
    clock.advance(2 * DAY_SECONDS)
    look_for_old, failures = store.look_for_old, iter([StoreUnavailable(), StoreUnavailable()])

    async def failing(after: int, before: int) -> removal.Old:
        for failure in failures:
            raise failure
        return await look_for_old(after, before)

    monkeypatch.setattr(store, "look_for_old", failing)
    run = asyncio.create_task(Retention(store, clock, days=1).run())
    try:
        await eventually(lambda: not _ids(database))
        assert not run.done()
    finally:
        run.cancel()
        await asyncio.wait({run})


async def test_retention_is_at_work_beside_the_sweep(
    store: TaskStore, database: Path, clock: FrozenClock, memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every process that sweeps, by the days of its setting."""
    monkeypatch.setattr(retention, "RETENTION_SECONDS", 0.01)
    await _finished(store, "old", TaskStatus.COMPLETED)
    clock.advance(2 * DAY_SECONDS)
    await _finished(store, "young", TaskStatus.COMPLETED)

    async with dispatching(store, memory_broker, clock, 5, 1.5):
        await eventually(lambda: _ids(database) == {"young"})


async def _accepted(store: TaskStore, task_id: str) -> None:
    await store.add(a_payload(task_id), 0, TAGGED)
    await claim(store, a_payload(task_id))


async def _settled(store: TaskStore, task_id: str, status: TaskStatus) -> None:
    assert await store.settle(Settlement(task_id, 1, status, result="1", now=store._clock()))


async def _finished(store: TaskStore, task_id: str, status: TaskStatus) -> None:
    await _accepted(store, task_id)
    await _settled(store, task_id, status)


async def _many(store: TaskStore, database: Path, count: int) -> None:
    """So many finished tasks, none with changes."""
    await store.add_all([(a_payload(str(number)), 0, TAGGED) for number in range(count)])
    change(database, "UPDATE tasks SET status = 'completed', due_at = NULL, ended_at = ?", store._clock())
    change(database, "DELETE FROM changes")


def _rows_a_commit(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks each write deletes from now on: nothing else is written meanwhile, so each has its own commit."""
    seen: list[int] = []
    remove_old = store.remove_old

    async def noted(ids: Sequence[str], before: int) -> Removed:
        removed = await remove_old(ids, before)
        seen.append(removed.rows)
        return removed

    monkeypatch.setattr(store, "remove_old", noted)
    return seen


def _ids(database: Path) -> set[str]:
    return {task_id for (task_id,) in rows(database, "SELECT id FROM tasks")}
