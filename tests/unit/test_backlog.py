"""The bound on what waits: nobody is refused while there is room, and nothing is counted for each task."""

import asyncio

import pytest
from aiohttp import web

from taskqueue.errors import StoreUnavailable
from taskqueue_api.backlog import PAUSE_SECONDS, SHARE, Backlog
from tests.support.eventually import eventually


class Waiting:
    """What waits, and how it is counted."""

    def __init__(self) -> None:
        self.tasks = 0
        self.counts = 0
        self.takes = 0.0
        self.now = 0.0
        self.fails = False

    async def count(self, limit: int) -> int:
        """As a store counts."""
        self.counts += 1
        found = self.tasks
        self.now += self.takes
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailable
        return min(found, limit)

    def backlog(self, most: int) -> Backlog:
        """A bound on it."""
        return Backlog(self.count, most, clock=lambda: self.now)

    async def add(self, backlog: Backlog, number: int = 1) -> bool:
        """Adds tasks, if there is room."""
        try:
            async with backlog.room_for(number):
                await asyncio.sleep(0)
                self.tasks += number
        except web.HTTPServiceUnavailable:
            return False
        return True


async def test_without_a_bound_nothing_is_counted() -> None:
    """And nobody is refused."""
    waiting = Waiting()
    backlog = waiting.backlog(0)

    async with backlog.kept_fresh():
        assert all([await waiting.add(backlog, 1_000) for _ in range(100)])

    assert waiting.counts == 0


async def test_exactly_as_many_as_the_bound_says_find_room() -> None:
    """Also where all of them come at once."""
    waiting = Waiting()
    backlog = waiting.backlog(100)
    await backlog.count()

    found = await asyncio.gather(*(waiting.add(backlog) for _ in range(300)))

    assert (sum(found), waiting.tasks) == (100, 100)


async def test_a_batch_finds_room_as_a_whole_or_not_at_all() -> None:
    """And what is smaller may still fit."""
    waiting = Waiting()
    backlog = waiting.backlog(100)

    assert [await waiting.add(backlog, number) for number in (60, 60, 40, 1)] == [True, False, True, False]


async def test_what_workers_took_makes_room_at_once() -> None:
    """Before anybody is refused it is counted anew."""
    waiting = Waiting()
    backlog = waiting.backlog(10)
    for _ in range(50):
        waiting.now += 1
        assert await waiting.add(backlog, 10)
        waiting.tasks = 0


async def test_counting_is_rare_where_nothing_has_changed() -> None:
    """However many are refused: a flood costs no count each, and a slow count is made the more seldom."""
    waiting = Waiting()
    waiting.tasks, waiting.takes = 10, 0.1
    backlog = waiting.backlog(10)
    await backlog.count()

    for _ in range(1_000):
        assert not await waiting.add(backlog)
    assert waiting.counts == 1
    waiting.now += SHARE * waiting.takes - 0.01
    assert not await waiting.add(backlog)
    assert waiting.counts == 1
    waiting.now += PAUSE_SECONDS
    assert not await waiting.add(backlog)
    assert waiting.counts == 2


async def test_many_who_are_refused_at_once_wait_for_one_count() -> None:
    """They share it."""
    waiting = Waiting()
    waiting.tasks = 10
    backlog = waiting.backlog(10)
    await backlog.count()
    waiting.now += 1

    assert not any(await asyncio.gather(*(waiting.add(backlog) for _ in range(200))))
    assert waiting.counts == 2


async def test_what_is_being_added_while_it_is_counted_counts() -> None:
    """The count does not see it yet, and the bound must hold all the same."""
    waiting = Waiting()
    backlog = waiting.backlog(10)
    adding = asyncio.Event()

    async def slowly() -> None:
        async with backlog.room_for(10):
            await adding.wait()
            waiting.tasks += 10

    task = asyncio.create_task(slowly())
    await asyncio.sleep(0)
    assert not await waiting.add(backlog)
    adding.set()
    await task
    waiting.now += 1
    assert not await waiting.add(backlog)


async def test_what_failed_makes_room_with_the_next_count() -> None:
    """It may have been written all the same, and the store knows."""
    waiting = Waiting()
    backlog = waiting.backlog(10)

    with pytest.raises(StoreUnavailable):
        async with backlog.room_for(10):
            raise StoreUnavailable

    assert await waiting.add(backlog, 10)


async def test_a_store_that_cannot_count_leaves_what_was_known() -> None:
    """Whoever finds room then hears of the store's trouble from the write itself."""
    waiting = Waiting()
    backlog = waiting.backlog(10)
    waiting.fails = True

    async with backlog.kept_fresh():
        assert await waiting.add(backlog, 10)
        assert not await waiting.add(backlog, 1)


async def test_what_others_add_is_seen_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes share a store."""
    monkeypatch.setattr("taskqueue_api.backlog.REFRESH_SECONDS", 0.001)
    waiting = Waiting()
    backlog = waiting.backlog(10)
    async with backlog.kept_fresh():
        waiting.tasks, waiting.now = 10, 1
        await eventually(lambda: waiting.counts >= 2, what="a second count")

        assert not await waiting.add(backlog)
