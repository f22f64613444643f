"""The roster: which workers live, what they offer, and what they are at."""

from pathlib import Path

from taskqueue.store.roster import OfferedAction
from taskqueue.store.tasks import TaskStore
from tests.support.database import change, rows
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import claim, queued

RESIZE = OfferedAction("Makes it smaller.", {"type": "object", "required": ["width"]})


async def _enter(store: TaskStore, name: str = "w", started_at: int = START) -> None:
    await store.enter_worker(name, started_at, 10, {"resize": RESIZE})


async def _names(store: TaskStore) -> list[str]:
    return [worker.name for worker in await store.live_workers()]


async def test_a_worker_is_seen_by_every_process(store: TaskStore, other_store: TaskStore, clock: FrozenClock) -> None:
    """All that it said of itself, and when it was seen last."""
    await _enter(store)
    clock.advance(5)
    assert await store.keep_worker("w", START)

    (worker,) = await other_store.live_workers()

    assert (worker.name, worker.started_at, worker.seen_at, worker.concurrency) == ("w", START, START + 5_000, 10)
    assert worker.actions == {"resize": RESIZE}


async def test_a_worker_that_was_not_seen_for_more_than_15_s_is_gone(store: TaskStore, clock: FrozenClock) -> None:
    """And one that says again that it is there, is there."""
    await _enter(store)
    clock.advance(15)
    assert (await _names(store), await store.roll_call()) == (["w"], frozenset({("w", START)}))

    clock.advance(0.001)
    assert (await _names(store), await store.roll_call()) == ([], frozenset())

    assert await store.keep_worker("w", START)
    assert (await _names(store), await store.roll_call()) == (["w"], frozenset({("w", START)}))


async def test_a_beat_is_of_the_worker_that_entered_itself(store: TaskStore) -> None:
    """Nobody's entry, and an entry of another life under the same name, are not kept."""
    assert not await store.keep_worker("w", START)
    await _enter(store, started_at=START + 1)

    assert not await store.keep_worker("w", START)


async def test_a_worker_that_starts_again_takes_the_place_of_its_former_life(store: TaskStore) -> None:
    """A container has its name for as long as it exists."""
    await _enter(store)
    await store.enter_worker("w", START + 1, 3, {})

    (worker,) = await store.live_workers()

    assert (worker.started_at, worker.concurrency, worker.actions) == (START + 1, 3, {})


async def test_a_worker_that_leaves_is_gone_at_once(store: TaskStore) -> None:
    """It, and nobody else: not even its next life."""
    await _enter(store, "a")
    await _enter(store, "b", START + 1)

    await store.remove_worker("a", START)
    await store.remove_worker("b", START)

    assert await _names(store) == ["b"]


async def test_entries_of_the_day_before_are_removed(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """By whoever enters itself next: workers that crashed do not pile up."""
    await _enter(store, "old")
    clock.advance(86_400)
    await _enter(store, "a")
    assert rows(database, "SELECT name FROM workers ORDER BY name") == [("a",), ("old",)]

    clock.advance(0.001)
    await _enter(store, "b")

    assert rows(database, "SELECT name FROM workers ORDER BY name") == [("a",), ("b",)]


async def test_workers_are_told_by_name(store: TaskStore) -> None:
    """Whoever came first."""
    for name in ("b", "c", "a"):
        await _enter(store, name)

    assert await _names(store) == ["a", "b", "c"]


async def test_actions_that_another_version_wrote_do_not_hide_the_worker(store: TaskStore, database: Path) -> None:
    """What cannot be read is left aside."""
    await _enter(store)
    change(database, "UPDATE workers SET actions = '[1]'")

    (worker,) = await store.live_workers()

    assert (worker.name, worker.actions) == ("w", {})


async def test_what_a_worker_is_at_is_told_by_its_name(store: TaskStore) -> None:
    """Running tasks alone, the oldest first."""
    for task_id, worker in (("x", "b"), ("y", "a"), ("z", "a")):
        await claim(store, await queued(store, task_id), worker=worker)
    await queued(store, "waits")

    assert await store.running_by_worker() == {"a": ["y", "z"], "b": ["x"]}
