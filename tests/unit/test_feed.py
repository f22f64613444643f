"""The feed: one cursor for all who listen, nothing missed and nothing told twice, and no reads for nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from taskqueue import feed as feeds
from taskqueue.clock import system_clock
from taskqueue.errors import StoreUnavailable
from taskqueue.feed import Feed, Subscription
from taskqueue.schema import NO_OPTIONS, TaskStatus
from taskqueue.store import following
from taskqueue.store.changes import Event
from taskqueue.store.sqlite import follower_engine
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.store.under_way import Progress
from tests.support.builders import a_payload
from tests.support.database import change
from tests.support.eventually import eventually
from tests.support.stored import final, running

LONG = 10


@pytest.fixture
async def feed(store: TaskStore) -> AsyncIterator[Feed]:
    """A feed at work."""
    feed = Feed(store)
    async with feed.running():
        yield feed


@pytest.fixture
async def elsewhere(database: Path) -> AsyncIterator[TaskStore]:
    """The store of another process on the same file: its commits wake nobody here."""
    async with open_store(database, system_clock) as store:
        yield store


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever the feed asks of the database."""
    asked: list[str] = []

    def watched(path: Path) -> Engine:
        engine = follower_engine(path)
        event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
        return engine

    monkeypatch.setattr(following, "follower_engine", watched)
    return asked


async def test_a_listener_hears_every_change_of_its_task_in_order(feed: Feed, store: TaskStore) -> None:
    """From accepted to final, whatever else happens, each once."""
    async with feed.subscribed("a") as heard:
        await final(store, TaskStatus.COMPLETED, "b")
        claimed = await running(store, "a")
        await store.report(Progress("a", claimed.attempt, 5, '{"fraction":0.5}'))
        changes = [each.change for each in await _hear(heard, 3)]

    assert [(each.task_id, each.status, each.attempt) for each in changes] == [
        ("a", "pending", 0),
        ("a", "running", 1),
        ("a", "running", 1),
    ]
    assert changes[2].detail == '{"fraction":0.5}'


async def test_what_another_process_commits_is_heard(feed: Feed, elsewhere: TaskStore) -> None:
    """With the action, for those who choose by it."""
    async with feed.subscribed() as heard:
        await elsewhere.add(a_payload("a", action="resize"), 0)
        [event] = await _hear(heard, 1)

    assert (event.change.task_id, event.action) == ("a", "resize")


async def test_a_commit_of_this_process_wakes_the_feed(
    feed: Feed, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it would not look by itself for a long time."""
    async with feed.subscribed() as heard:
        monkeypatch.setattr(feeds, "LOOK_SECONDS", 3600)
        await asyncio.sleep(0.1)
        await store.add(a_payload("a"), 0)

        assert len(await _hear(heard, 1)) == 1


async def test_a_listener_after_a_silence_begins_with_the_present(feed: Feed, store: TaskStore) -> None:
    """What happened while nobody listened is not told, and all is that happens once it listens."""
    for name in "abc":
        await store.add(a_payload(name), 0)
        await asyncio.sleep(0.1)
        async with feed.subscribed() as heard:
            assert heard.start == await store.newest_change()
            await store.add(a_payload(name * 2), 0)
            [event] = await _hear(heard, 1)
            assert event.change.task_id == name * 2


async def test_changes_while_listeners_come_and_go_are_heard_once_by_each(feed: Feed, elsewhere: TaskStore) -> None:
    """Each hears exactly what comes after its start, in order and without a gap."""
    heard: list[tuple[int, list[int]]] = []

    async def listen(delay: float) -> None:
        await asyncio.sleep(delay)
        async with feed.subscribed() as subscription:
            events = await _hear(subscription, 20)
            assert subscription.start is not None
            heard.append((subscription.start, [each.seq for each in events]))

    async def write() -> None:
        for number in range(200):
            await elsewhere.add(a_payload(str(number)), 0)
            await asyncio.sleep(0.005)

    await asyncio.gather(write(), *(listen(number * 0.02) for number in range(20)))

    assert len(heard) == 20
    assert all(seqs[:20] == list(range(start + 1, start + 21)) for start, seqs in heard)


async def test_more_than_a_page_is_heard_as_a_whole(feed: Feed, store: TaskStore) -> None:
    """Of one commit with many changes none is left for a later one to bring."""
    async with feed.subscribed() as heard:
        await store.add_all([(a_payload(str(number)), 0, NO_OPTIONS) for number in range(1_200)])

        assert [each.seq for each in await _hear(heard, 1_200)] == list(range(1, 1_201))


async def test_a_quiet_database_is_not_read_and_nobody_costs_nothing(
    feed: Feed, store: TaskStore, statements: list[str]
) -> None:
    """While nothing is committed the table is not touched; while nobody listens nothing is asked at all."""
    await store.add(a_payload("a"), 0)
    async with feed.subscribed():
        await eventually(lambda: len(statements) > 10, what="some looks")
        reads = [each for each in statements if "data_version" not in each]
        assert len(reads) == 2  # the newest, and one look at what came after it
    await asyncio.sleep(0.1)
    asked = len(statements)
    await store.add(a_payload("b"), 0)
    await asyncio.sleep(0.2)
    assert len(statements) == asked


async def test_many_listeners_cost_no_more_reads_than_one(
    feed: Feed, elsewhere: TaskStore, statements: list[str]
) -> None:
    """However many they are: each change is read once."""

    async def reads_with(listeners: int, name: str) -> int:
        statements.clear()
        async with AsyncExitStack() as stack:
            heard = [await stack.enter_async_context(feed.subscribed(name)) for _ in range(listeners)]
            await elsewhere.add(a_payload(name), 0)
            await asyncio.gather(*(_hear(each, 1) for each in heard))
            return len([each for each in statements if "data_version" not in each])

    few, many = await reads_with(1, "a"), await reads_with(200, "b")

    assert few <= 4
    assert many <= 4


async def test_a_listener_that_does_not_listen_is_let_go(
    feed: Feed, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, rather than fill the memory; its neighbour hears on."""
    monkeypatch.setattr(feeds, "MAX_WAITING", 10)
    async with feed.subscribed() as idle, feed.subscribed() as busy:
        for number in range(20):
            await store.add(a_payload(str(number)), 0)
            await _hear(busy, 1)

        assert idle.ended
        assert await idle.next() == []
        assert not busy.ended


async def test_the_feed_survives_a_database_that_fails(
    feed: Feed, store: TaskStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries again, goes on from where it was, and nothing is missed."""
    monkeypatch.setattr(feeds, "AGAIN_SECONDS", 0.05)
    async with feed.subscribed() as heard:
        change(database, "ALTER TABLE changes RENAME TO away")
        await asyncio.sleep(0.2)
        change(database, "INSERT INTO away (task_id, status, attempt, at) VALUES ('a', 'pending', 0, 1)")
        assert not heard.ended
        change(database, "ALTER TABLE away RENAME TO changes")

        [event] = await _hear(heard, 1)
    assert event.change.task_id == "a"


async def test_a_feed_that_cannot_begin_says_so(feed: Feed, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener is refused within a bounded time; a later one finds the feed in order."""
    monkeypatch.setattr(feeds, "BEGIN_SECONDS", 0.3)
    monkeypatch.setattr(feeds, "AGAIN_SECONDS", 0.05)
    change(database, "ALTER TABLE changes RENAME TO away")
    with pytest.raises(StoreUnavailable):
        async with feed.subscribed():
            pass

    change(database, "ALTER TABLE away RENAME TO changes")
    monkeypatch.setattr(feeds, "BEGIN_SECONDS", LONG)
    async with feed.subscribed() as heard:
        assert heard.start == 0


async def test_the_end_of_the_feed_ends_everybody_at_once(store: TaskStore) -> None:
    """Who listens hears no more, and who comes later finds it ended."""
    feed = Feed(store)
    async with feed.running(), feed.subscribed() as heard:
        waiting = asyncio.create_task(heard.next())
        await asyncio.sleep(0)
        feed.end()

        async with asyncio.timeout(LONG):
            assert await waiting == []
        async with feed.subscribed() as late:
            assert late.ended


async def test_a_cancelled_listener_loses_nothing(feed: Feed, store: TaskStore) -> None:
    """A heartbeat's timeout does not take away what arrives at that moment."""
    async with feed.subscribed() as heard:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await heard.next()
        await store.add(a_payload("a"), 0)

        assert len(await _hear(heard, 1)) == 1


async def _hear(subscription: Subscription, number: int) -> list[Event]:
    heard: list[Event] = []
    async with asyncio.timeout(LONG):
        while len(heard) < number:
            news = await subscription.next()
            assert news, "it has ended"
            heard += news
    return heard
