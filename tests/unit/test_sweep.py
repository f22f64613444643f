"""The one clock of the system: what is due is handed out, what is lost is found, an honest backlog is left alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from taskqueue import dispatch, sweep
from taskqueue.broker.contract import Broker
from taskqueue.broker.memory import MemoryBroker
from taskqueue.dispatch import Dispatcher
from taskqueue.errors import StoreUnavailable
from taskqueue.schedule import ScheduleRequest
from taskqueue.schema import HIGH, NORMAL, PRIORITIES, TaskMessage
from taskqueue.store.losses import WORKER_LOST
from taskqueue.store.schedules import TICKS_AT_ONCE, Kept
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore
from taskqueue.sweep import DeliveryLog, Sweep
from tests.support.builders import a_message, a_payload
from tests.support.database import rows
from tests.support.doubles import AwayBroker, RefusingBroker
from tests.support.eventually import eventually
from tests.support.frozen_clock import START, FrozenClock
from tests.support.inbox import Inbox
from tests.support.stored import DISPATCH_LEASE, LEASE, claim, pending, queued, row, running

MAX_ATTEMPTS = 1


async def test_what_is_due_is_handed_out(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """A task that nobody dispatched is with the broker after the next sweep."""
    await pending(store, due_at=START + 1_000)

    async with _swept(store, memory_broker, clock) as sweeping:
        await sweeping._bring_due()
        assert row(database, "a")["status"] == "pending"
        clock.advance(1)
        await sweeping._bring_due()
        await _eventually(database, "a", "queued")

    assert await memory_broker.ready_count() == 1


async def test_all_schedules_that_are_due_tick(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """At once, also where there are more than one transaction makes: at noon there are."""
    request = ScheduleRequest.of({"action": "a", "interval": 60})
    for number in range(2 * TICKS_AT_ONCE + 1):
        await store.keep_schedule(Kept(str(number), request, START, START + 60_000))
    clock.advance(60)

    async with _swept(store, memory_broker, clock) as sweeping:
        await sweeping._tick_schedules()

    assert rows(database, "SELECT count(DISTINCT schedule_id), count(*) FROM tasks") == [(101, 101)]


async def test_what_the_broker_did_not_confirm_is_handed_out_again(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """When its lease has run out, and not before."""
    broker = RefusingBroker({"a"})
    await pending(store, due_at=START)

    async with _swept(store, broker, clock) as sweeping:
        await sweeping._bring_due()
        await eventually(lambda: row(database, "a")["due_at"] == START + DISPATCH_LEASE)
        await eventually(sweeping._dispatcher._waiting.empty)
        broker.refused = ()
        await sweeping._bring_due()
        assert row(database, "a")["status"] == "pending"

        clock.advance(DISPATCH_LEASE / 1000)
        await sweeping._bring_due()
        await _eventually(database, "a", "queued")

    assert await broker.ready_count() == 1


async def test_nothing_is_taken_while_the_broker_is_away(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Due instants do not churn, so that all is handed out at once when it is back, longest due first."""
    broker = AwayBroker()
    await pending(store, due_at=START)
    before = row(database, "a")

    async with _swept(store, broker, clock) as sweeping:
        for _ in range(5):
            clock.advance(10)
            await sweeping._bring_due()
        assert row(database, "a") == before

        broker.connected = True
        await sweeping._bring_due()
        await _eventually(database, "a", "queued")


async def test_a_task_that_lost_its_last_worker_fails_while_the_broker_is_away(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """That needs no broker, and a client waits for it."""
    await claim(store, await queued(store), alone=True)
    clock.advance(LEASE / 1000)

    async with _swept(store, AwayBroker(), clock) as sweeping:
        await sweeping._bring_due()

    assert (row(database, "a")["status"], row(database, "a")["error"]) == ("failed", WORKER_LOST)


async def test_nothing_is_taken_while_too_much_waits(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full waiting list would drop stays where it is, and is taken by a sweep that has room."""
    monkeypatch.setattr(dispatch, "MAX_WAITING", 4)
    await pending(store, due_at=START)
    before = row(database, "a")
    dispatcher = Dispatcher(memory_broker, store, clock)
    sweeping = Sweep(store, memory_broker, dispatcher, clock, MAX_ATTEMPTS)
    for _ in range(4):
        dispatcher.hand_over(Ready(a_message("other").payload(0), attempt=0))

    await sweeping._bring_due()

    assert row(database, "a") == before


async def test_a_task_that_the_full_list_dropped_is_brought_by_the_sweep(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of posts leaves none behind."""
    monkeypatch.setattr(dispatch, "MAX_WAITING", 4)
    payloads = [await pending(store, str(number)) for number in range(10)]

    async with _swept(store, memory_broker, clock) as sweeping:
        for payload in payloads:
            sweeping._dispatcher.hand_over(Ready(payload, attempt=0))
        await eventually(lambda: _count(database, "queued") == 4)
        clock.advance(DISPATCH_LEASE / 1000)
        await sweeping._bring_due()
        await eventually(sweeping._dispatcher._waiting.empty)
        for _ in range(5):
            clock.advance(DISPATCH_LEASE / 1000)
            await sweeping._bring_due()
            await eventually(sweeping._dispatcher._waiting.empty)

        await eventually(lambda: _count(database, "queued") == 10)


async def test_an_empty_queue_has_lost_what_was_queued(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """A purge, a deleted queue, a disk that is gone: whoever finds the queue empty makes the messages again."""
    await queued(store, "old", dispatched_at=START - 1)
    await queued(store, "young", dispatched_at=START)

    async with _swept(store, memory_broker, clock) as sweeping:
        clock.advance(sweep.SEARCH_SLACK_SECONDS)
        await sweeping._find_lost()
        assert row(database, "young")["status"] == "queued"
        assert (row(database, "old")["status"], row(database, "old")["due_at"]) == ("pending", clock())

        await sweeping._bring_due()
        await _eventually(database, "old", "queued")

    assert await memory_broker.ready_count() == 1


async def test_an_honest_backlog_is_left_alone(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """However long it waits: as long as the queue is not empty, nothing younger than what was delivered is lost."""
    for number in range(10):
        await queued(store, str(number), dispatched_at=START + number)
        await memory_broker.publish([a_message(str(number), dispatched_at=START + number).encode()])
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)
    sweeping.deliveries.note(START - 1, NORMAL)

    for _ in range(3):
        clock.advance(100_000)
        await sweeping._find_lost()

    assert _count(database, "queued") == 10


async def test_a_message_that_was_overtaken_is_lost(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """The queue is in order: where much younger messages are delivered, one that did not come will not come."""
    await memory_broker.publish([a_message("waiting").encode()])
    await queued(store, "overtaken", dispatched_at=START)
    await queued(store, "near", dispatched_at=START + 1)
    clock.advance(1_000)
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)

    sweeping.deliveries.note(START + 10_000, NORMAL)
    await sweeping._find_lost()
    assert _count(database, "queued") == 2

    sweeping.deliveries.note(START + 10_001, NORMAL)
    await sweeping._find_lost()

    assert row(database, "overtaken")["status"] == "pending"
    assert row(database, "near")["status"] == "queued"


async def test_a_backlog_that_high_ones_overtake_is_left_alone(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """Ten minutes of high tasks before a waiting backlog: none of its tasks is dispatched twice."""
    for number in range(100):
        await queued(store, f"{number:03}", dispatched_at=START + number)
        await memory_broker.publish([a_message(f"{number:03}", dispatched_at=START + number).encode()])

    async with _swept(store, memory_broker, clock) as sweeping:
        for _ in range(10):
            clock.advance(60)
            sweeping.deliveries.note(clock(), HIGH)
            await sweeping._find_lost()
            await sweeping._bring_due()

    assert _count(database, "queued") == 100
    assert await memory_broker.ready_count() == 100


@pytest.mark.parametrize("priority", PRIORITIES)
async def test_a_lost_message_is_found_among_those_of_its_priority(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, priority: int
) -> None:
    """However many of the other priority are delivered meanwhile, and whatever waits of it."""
    other = NORMAL if priority == HIGH else HIGH
    await memory_broker.publish([a_message("waiting").encode()])
    await queued(store, "lost", dispatched_at=START, priority=priority)
    await queued(store, "waiting", dispatched_at=START, priority=other)
    clock.advance(600)
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)

    sweeping.deliveries.note(START + 1, other)
    sweeping.deliveries.note(START + 20_000, priority)
    await sweeping._find_lost()

    assert row(database, "lost")["status"] == "pending"
    assert row(database, "waiting")["status"] == "queued"


async def test_what_high_ones_hold_back_is_raised(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """For every two high ones that came, the oldest normal one that has waited enough goes into their line, once."""
    for number in range(5):
        await queued(store, str(number), dispatched_at=START + number)
    clock.advance(10.004)

    async with _swept(store, memory_broker, clock) as sweeping:
        for _ in range(5):
            sweeping.deliveries.note(clock(), HIGH)
        for _ in range(3):
            await sweeping._raise_held_back()
        await sweeping._bring_due()
        async with memory_broker.subscribe(inbox, channels=1, prefetch_count=100):
            deliveries = await inbox.expect(2)

    messages = [TaskMessage.decode(each.body) for each in deliveries]
    assert [(each.id, each.attempt, each.priority, each.dispatched_at) for each in messages] == [
        ("0", 0, HIGH, clock()),
        ("1", 0, HIGH, clock()),
    ]
    assert _count(database, "queued") == 5


@pytest.mark.parametrize("delivered", [
    [],
    [HIGH],
    [HIGH, HIGH, NORMAL] * 20,
    [NORMAL] * 20,
    [NORMAL, HIGH, HIGH],
    [*[NORMAL, NORMAL, HIGH, HIGH, HIGH, HIGH] * 20, *[NORMAL] * 5, *[HIGH] * 10],
])  # fmt: skip
async def test_normal_ones_that_have_their_share_are_not_raised(
    store: TaskStore, memory_broker: MemoryBroker, clock: FrozenClock, delivered: list[int]
) -> None:
    """However long they wait."""
    await queued(store, dispatched_at=START)
    clock.advance(3600)
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)

    for priority in delivered:
        sweeping.deliveries.note(clock(), priority)
    await sweeping._raise_held_back()

    assert not (await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, 10)).ready


async def test_neither_young_nor_high_nor_running_tasks_are_raised(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """A short burst of high ones goes first as a whole."""
    await running(store, "running")
    await queued(store, "high", dispatched_at=START, priority=HIGH)
    await queued(store, "young", dispatched_at=START + 1)
    before = [row(database, task_id) for task_id in ("running", "high", "young")]
    clock.advance(10)
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)

    for _ in range(20):
        sweeping.deliveries.note(clock(), HIGH)
    await sweeping._raise_held_back()

    assert [row(database, task_id) for task_id in ("running", "high", "young")] == before


async def test_what_was_overtaken_is_found_while_the_broker_is_away(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """What deliveries have shown stays true; that the queue is empty is not assumed."""
    await queued(store, "overtaken", dispatched_at=START)
    await queued(store, "young", dispatched_at=START + 5_000)
    clock.advance(1_000)
    broker = AwayBroker()
    sweeping = Sweep(store, broker, Dispatcher(broker, store, clock), clock, MAX_ATTEMPTS)
    sweeping.deliveries.note(START + 10_001, NORMAL)

    await sweeping._find_lost()

    assert row(database, "overtaken")["status"] == "pending"
    assert row(database, "young")["status"] == "queued"


async def test_a_message_from_the_future_makes_nothing_lost(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """Another producer's clock, or its mistake, must not send the whole backlog again."""
    await queued(store, dispatched_at=START)
    await memory_broker.publish([a_message("a", dispatched_at=START).encode()])
    clock.advance(1)
    sweeping = Sweep(store, memory_broker, Dispatcher(memory_broker, store, clock), clock, MAX_ATTEMPTS)

    sweeping.deliveries.note(TaskMessage(id="b", action="c", dispatched_at=clock() + 60_000).dispatched_at, NORMAL)
    await sweeping._find_lost()

    assert row(database, "a")["status"] == "queued"


def test_the_youngest_delivery_counts() -> None:
    """Messages that come again are older, and do not turn the log back; those without an instant say nothing."""
    clock = FrozenClock()
    log = DeliveryLog(clock)

    for instant in (START - 5, START - 9, 0):
        log.note(instant, NORMAL)

    assert (log.youngest(NORMAL), log.youngest(HIGH)) == (START - 5, 0)


async def test_a_store_that_fails_does_not_end_the_sweep(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one tries again: nobody has to start a process because of a locked file."""
    await pending(store, due_at=START)
    await queued(store, "lost", dispatched_at=START - 999_999)
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(sweep, "SEARCH_SECONDS", 0.01)
    for method in ("take_due", "requeue_lost"):
        monkeypatch.setattr(store, method, _failing_twice(getattr(store, method)))

    async with _swept(store, memory_broker, clock) as sweeping:
        swept = asyncio.create_task(sweeping.run())
        await _eventually(database, "a", "queued")
        await _eventually(database, "lost", "queued")
        assert not swept.done()
        swept.cancel()
        with suppress(asyncio.CancelledError):
            await swept


async def _fail(*_: object) -> NoReturn:
    raise StoreUnavailable


async def _find_more_each_time(*_: object) -> Sequence[Ready]:
    await asyncio.sleep(0.001)
    return [Ready(a_payload("ticked"), attempt=0)]


async def _never_end(*_: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture(params=[_fail, _find_more_each_time, _never_end])
def endless_schedules(request: pytest.FixtureRequest, store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules that cannot be read, or that are due without end."""
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(store, "tick_schedules", request.param)


@pytest.mark.usefixtures("endless_schedules")
async def test_no_step_holds_up_another(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock
) -> None:
    """What is due is handed out, whatever becomes of schedules."""
    await pending(store, due_at=START)
    async with _swept(store, memory_broker, clock) as sweeping:
        running = asyncio.create_task(sweeping.run())
        await _eventually(database, "a", "queued")
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_two_sweeps_hand_out_each_task_once(
    store: TaskStore, database: Path, memory_broker: MemoryBroker, clock: FrozenClock, inbox: Inbox
) -> None:
    """Every process sweeps, and none disturbs the others."""
    for number in range(50):
        await pending(store, f"{number:02}", due_at=START)

    async with _swept(store, memory_broker, clock) as one, _swept(store, memory_broker, clock) as two:
        await asyncio.gather(*(each._bring_due() for each in (one, two) * 3))
        await eventually(lambda: _count(database, "queued") == 50)

    async with memory_broker.subscribe(inbox, channels=1, prefetch_count=100):
        deliveries = await inbox.expect(50)
    assert sorted(TaskMessage.decode(each.body).id for each in deliveries) == [f"{number:02}" for number in range(50)]


@asynccontextmanager
async def _swept(store: TaskStore, broker: Broker, clock: FrozenClock) -> AsyncIterator[Sweep]:
    """A sweep whose steps the test calls, and whose dispatcher is at work."""
    dispatcher = Dispatcher(broker, store, clock)
    dispatching = asyncio.create_task(dispatcher.run())
    try:
        yield Sweep(store, broker, dispatcher, clock, MAX_ATTEMPTS)
        assert not dispatching.done()
    finally:
        dispatching.cancel()
        with suppress(asyncio.CancelledError):
            await dispatching


def _failing_twice(method: object) -> object:
    failures = iter([StoreUnavailable(), StoreUnavailable()])

    async def failing(*arguments: object) -> object:
        for failure in failures:
            raise failure
        assert callable(method)
        return await method(*arguments)

    return failing


async def _eventually(database: Path, task_id: str, status: str) -> None:
    await eventually(lambda: row(database, task_id)["status"] == status, what=f"{task_id} {status}")


def _count(database: Path, status: str) -> int:
    counted: int = rows(database, "SELECT count(*) FROM tasks WHERE status = ?", status)[0][0]
    return counted
