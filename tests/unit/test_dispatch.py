"""Handing tasks to the broker: what is confirmed is queued, and nothing that goes wrong is held against a task."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from taskqueue import dispatch
from taskqueue.broker.contract import Broker
from taskqueue.broker.memory import MemoryBroker
from taskqueue.dispatch import Dispatcher
from taskqueue.errors import StoreUnavailable
from taskqueue.schema import HIGH, NORMAL, TaskMessage
from taskqueue.store.queueing import Dispatched
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.doubles import AwayBroker, RefusingBroker
from tests.support.eventually import eventually
from tests.support.frozen_clock import START, FrozenClock
from tests.support.inbox import Inbox
from tests.support.stored import DISPATCH_LEASE, claim, pending, row


async def test_a_task_that_is_handed_over_is_published_and_queued(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """The message is for the attempt that follows, and the store notes the instant that is in it."""
    payload = await pending(store)

    async with _at_work(memory_broker, store, clock) as dispatcher:
        dispatcher.hand_over(Ready(payload, attempt=0))
        await _eventually(database, "a", "queued")

    async with memory_broker.subscribe(inbox, channels=1, prefetch_count=1):
        (delivery,) = await inbox.expect(1)
    assert TaskMessage.decode(delivery.body) == TaskMessage.of(payload, attempt=0, dispatched_at=START)
    assert row(database, "a")["queued_at"] == START


async def test_tasks_are_published_in_the_order_of_their_handing_over(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """However many there are: who posts first is served first."""
    payloads = [await pending(store, f"{number:03}") for number in range(250)]

    async with _at_work(memory_broker, store, clock) as dispatcher:
        for payload in payloads:
            dispatcher.hand_over(Ready(payload, attempt=0))
        await _eventually(database, "249", "queued")

    async with memory_broker.subscribe(inbox, channels=1, prefetch_count=1_000):
        deliveries = await inbox.expect(250)
    assert [TaskMessage.decode(delivery.body).id for delivery in deliveries] == [payload.id for payload in payloads]
    assert len((await store.page()).tasks) == 100


async def test_each_task_is_published_with_its_priority(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """High ones overtake, each level in its order, and every message says which level it has."""
    payloads = [await pending(store, f"{number:02}", priority=HIGH if number % 2 else NORMAL) for number in range(20)]

    async with _at_work(memory_broker, store, clock) as dispatcher:
        for number, payload in enumerate(payloads):
            dispatcher.hand_over(Ready(payload, attempt=0, priority=HIGH if number % 2 else NORMAL))
        await eventually(lambda: _ready(memory_broker, 20))
        await _eventually(database, "18", "queued")
        await _eventually(database, "19", "queued")

    async with memory_broker.subscribe(inbox, channels=1, prefetch_count=100):
        messages = [TaskMessage.decode(delivery.body) for delivery in await inbox.expect(20)]
    assert [message.id for message in messages[:6]] == ["01", "03", "00", "05", "07", "02"]
    assert [message.id for message in messages if message.priority == HIGH] == [f"{n:02}" for n in range(1, 20, 2)]
    assert [message.id for message in messages if message.priority == NORMAL] == [f"{n:02}" for n in range(0, 20, 2)]


async def test_a_retry_is_published_for_its_own_attempt(
    store: TaskStore, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """So that no older message can start it."""
    async with (
        memory_broker.subscribe(inbox, channels=1, prefetch_count=1),
        _at_work(memory_broker, store, clock) as dispatcher,
    ):
        dispatcher.hand_over(Ready(a_payload("a"), attempt=3))
        (delivery,) = await inbox.expect(1)

    assert TaskMessage.decode(delivery.body).attempt == 3


async def test_what_the_broker_did_not_confirm_stays_pending(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """Of one batch, each task by its own answer; it keeps its instant, at which a sweep will find it."""
    payloads = [await pending(store, task_id) for task_id in ("good", "bad", "fine")]

    async with _at_work(RefusingBroker({"bad"}), store, clock) as dispatcher:
        for payload in payloads:
            dispatcher.hand_over(Ready(payload, attempt=0))
        await _eventually(database, "fine", "queued")

    assert [row(database, task_id)["status"] for task_id in ("good", "bad")] == ["queued", "pending"]
    assert row(database, "bad")["due_at"] == START + DISPATCH_LEASE


async def test_a_task_that_meets_no_broker_stays_pending(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """The dispatcher goes on, and publishes what is handed over when the broker is back."""
    broker = AwayBroker()
    lost, next_one = await pending(store, "lost"), await pending(store, "next")

    async with _at_work(broker, store, clock) as dispatcher:
        dispatcher.hand_over(Ready(lost, attempt=0))
        await eventually(dispatcher._waiting.empty)
        await asyncio.sleep(0)
        broker.connected = True
        dispatcher.hand_over(Ready(next_one, attempt=0))
        await _eventually(database, "next", "queued")

    assert row(database, "lost")["status"] == "pending"
    assert row(database, "lost")["due_at"] == START + DISPATCH_LEASE


async def test_a_worker_that_is_faster_than_the_note_keeps_its_task(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """The task runs already when its confirmation is noted, and goes on running."""
    payload = await pending(store)
    await claim(store, payload)
    next_one = await pending(store, "next")

    async with _at_work(memory_broker, store, clock) as dispatcher:
        dispatcher.hand_over(Ready(payload, attempt=0))
        dispatcher.hand_over(Ready(next_one, attempt=0))
        await _eventually(database, "next", "queued")

    assert row(database, "a")["status"] == "running"


async def test_one_note_serves_for_all_that_is_confirmed_meanwhile(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after a worker that is free: it would stand in its way at the write lock, and change nothing later."""
    monkeypatch.setattr(dispatch, "NOTE_AFTER_SECONDS", 0.3)
    notes: list[list[str]] = []
    mark_queued = store.mark_queued

    async def mark_and_tell(dispatched: Sequence[Dispatched]) -> None:
        notes.append([each.id for each in dispatched])
        await mark_queued(dispatched)

    monkeypatch.setattr(store, "mark_queued", mark_and_tell)
    async with _at_work(memory_broker, store, clock) as dispatcher:
        for ready, task_id in enumerate(("a", "b"), 1):
            dispatcher.hand_over(Ready(await pending(store, task_id), attempt=0))
            await eventually(partial(_ready, memory_broker, ready))
        await claim(store, a_payload("a"))
        await _eventually(database, "b", "queued")

    assert notes == [["a", "b"]]
    assert row(database, "a")["status"] == "running"


async def test_a_note_that_cannot_be_written_stops_nothing(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task has been published, stays pending, and costs a second message at most."""
    payload, next_one = await pending(store), await pending(store, "next")
    mark_queued = store.mark_queued
    failed = asyncio.Event()

    async def fail_at_first(dispatched: Sequence[Dispatched]) -> None:
        if not failed.is_set():
            failed.set()
            raise StoreUnavailable
        await mark_queued(dispatched)

    monkeypatch.setattr(store, "mark_queued", fail_at_first)
    async with _at_work(memory_broker, store, clock) as dispatcher:
        dispatcher.hand_over(Ready(payload, attempt=0))
        await eventually(failed.is_set)
        dispatcher.hand_over(Ready(next_one, attempt=0))
        await _eventually(database, "next", "queued")

    assert row(database, "a")["status"] == "pending"


async def test_what_does_not_fit_is_left_to_the_sweep(
    store: TaskStore, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting list is bounded: handing over neither waits nor fails, and what came first is kept."""
    monkeypatch.setattr(dispatch, "MAX_WAITING", 8)
    dispatcher = Dispatcher(memory_broker, store, clock)

    for number in range(20):
        dispatcher.hand_over(Ready(a_payload(str(number)), attempt=0))

    assert dispatcher._waiting.qsize() == 8
    assert dispatcher._waiting.get_nowait().payload.id == "0"


async def test_large_tasks_wait_in_small_numbers(
    store: TaskStore, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting list is bounded in what it holds, too: large tasks must not fill the memory."""
    monkeypatch.setattr(dispatch, "MAX_CHARACTERS", 1_000)
    dispatcher = Dispatcher(memory_broker, store, clock)

    for number in range(20):
        dispatcher.hand_over(Ready(a_payload(str(number)), attempt=0, characters=400))

    assert dispatcher._waiting.qsize() == 3
    assert not dispatcher.idle


async def test_a_dispatcher_is_idle_while_it_has_room_and_a_broker(
    store: TaskStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep asks before it takes anything."""
    monkeypatch.setattr(dispatch, "MAX_WAITING", 8)
    broker = AwayBroker()
    dispatcher = Dispatcher(broker, store, clock)
    idle = [dispatcher.idle]

    broker.connected = True
    for number in range(2):
        dispatcher.hand_over(Ready(a_payload(str(number)), attempt=0))
        idle.append(dispatcher.idle)

    assert idle == [False, True, False]


async def test_a_full_broker_is_left_alone_for_longer_and_longer(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """A sweep takes nothing meanwhile; what the broker takes again ends the rest."""
    broker = MemoryBroker(capacity=0)
    rests = []
    async with _at_work(broker, store, clock) as dispatcher:
        for number in range(5):
            dispatcher.hand_over(Ready(await pending(store, str(number)), attempt=0))
            await eventually(lambda: not dispatcher.idle, what="a rest")
            before = clock()
            while not dispatcher.idle:
                clock.advance(0.5)
            rests.append((clock() - before) / 1000)

        broker._capacity = 10
        dispatcher.hand_over(Ready(await pending(store, "taken"), attempt=0))
        await _eventually(database, "taken", "queued")
        assert dispatcher.idle

    assert rests == [1, 2, 4, 5, 5]


async def test_a_slow_broker_does_not_hold_up_what_comes_after(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """Several batches are in flight at once."""
    broker = _SlowForTheFirst()
    first, second = await pending(store, "first"), await pending(store, "second")

    async with _at_work(broker, store, clock) as dispatcher:
        dispatcher.hand_over(Ready(first, attempt=0))
        await eventually(lambda: broker.waiting)
        dispatcher.hand_over(Ready(second, attempt=0))
        await _eventually(database, "second", "queued")
        assert row(database, "first")["status"] == "pending"

        broker.go_on.set()
        await _eventually(database, "first", "queued")


async def test_the_lease_of_a_dispatch_outlives_the_wait_for_its_confirmation() -> None:
    """Otherwise every slow confirmation would cost a second message."""
    assert dispatch.DISPATCH_LEASE_SECONDS > 5


class _SlowForTheFirst(MemoryBroker):
    """Keeps its first publisher waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = False
        self.go_on = asyncio.Event()

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        if not self.waiting:
            self.waiting = True
            await self.go_on.wait()
        return await super().publish(bodies, priority)


@asynccontextmanager
async def _at_work(broker: Broker, store: TaskStore, clock: FrozenClock) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(broker, store, clock)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
        assert not running.done()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def _eventually(database: Path, task_id: str, status: str) -> None:
    await eventually(lambda: row(database, task_id)["status"] == status, what=f"{task_id} {status}")


async def _ready(broker: Broker, count: int) -> bool:
    return await broker.ready_count() == count
