"""A worker that hears nothing of the broker works on, straight from the store, and goes back to the queue."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from taskqueue import events
from taskqueue.actions import Action, action
from taskqueue.clock import system_clock
from taskqueue.errors import StoreUnavailable
from taskqueue.schema import HIGH, TaskMessage, TaskOptions, TaskStatus
from taskqueue.store.queueing import Dispatched
from taskqueue.store.tasks import TaskStore
from taskqueue_worker import direct
from tests.support.database import change, rows
from tests.support.doubles import DeafBroker
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "AWAY_SECONDS", 0.3)
    monkeypatch.setattr(direct, "POLL_SECONDS", 0.05)


@pytest.fixture
def memory_broker() -> DeafBroker:
    """A broker that nobody hears: what is published waits in it."""
    return DeafBroker()


async def test_what_is_due_is_done_without_the_broker(workshop: Workshop) -> None:
    """From the store to its result, once, and said once in the log."""
    async with workshop.working():
        task_ids = [await _due(workshop) for _ in range(25)]
        tasks = [await workshop.finished(task_id) for task_id in task_ids]

    assert [(task.status, task.attempts) for task in tasks] == [(TaskStatus.COMPLETED, 1)] * 25
    assert len(workshop.reports(events.WITHOUT_BROKER)) == 1


async def test_what_the_broker_holds_is_done_without_it_and_not_again_after_it(
    workshop: Workshop, memory_broker: DeafBroker
) -> None:
    """The oldest first, high ones before all; their messages start nothing when they come."""
    order: list[str] = []
    queued = [await _queued(workshop, high=number > 7) for number in range(10)]
    async with workshop.working(_noting(order), channels=1, prefetch_count=1):
        for task_id in queued:
            await workshop.finished(task_id)
        assert order == [*queued[8:], *queued[:8]]

        memory_broker.hear()
        await eventually(lambda: _idle(memory_broker), what="the end of all messages")
        late = await workshop.submit("note")
        await workshop.finished(late)

    assert order == [*queued[8:], *queued[:8], late]
    assert rows(workshop.database, "SELECT DISTINCT attempt, status FROM tasks") == [(1, "completed")]


async def test_an_honest_backlog_is_not_lost_by_what_was_done_without_the_broker(
    workshop: Workshop, memory_broker: DeafBroker
) -> None:
    """What came straight from the store says nothing about the order of the queue."""
    async with workshop.working() as working:
        await workshop.finished(await _due(workshop))
        assert working.deliveries.youngest(0) == 0


async def test_it_takes_no_more_at_once_than_through_the_queue(workshop: Workshop, gate: Gate) -> None:
    """So many channels times so many messages; the next one when one has ended."""
    for _ in range(8):
        await _due(workshop, "wait")
    async with workshop.working(_gated(gate), channels=2, prefetch_count=3):
        await gate.arrived(6)
        await asyncio.sleep(0.3)
        assert gate.arrivals == 6
        gate.open()
        await gate.arrived(8)


async def test_back_at_the_queue_it_still_takes_no_more_at_once(
    workshop: Workshop, memory_broker: DeafBroker, gate: Gate
) -> None:
    """What the queue brings waits, before its claim, for what came from the store."""
    for _ in range(4):
        await _due(workshop, "wait")
    async with workshop.working(_gated(gate), channels=2, prefetch_count=2):
        await gate.arrived(4)
        memory_broker.hear()
        late = await workshop.submit("wait")
        await asyncio.sleep(0.3)
        assert gate.arrivals == 4
        assert (await workshop.task(late)).status == TaskStatus.QUEUED
        gate.open()
        await workshop.finished(late)


async def test_a_moment_without_the_broker_changes_nothing(
    workshop: Workshop, memory_broker: DeafBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that restarts quickly is waited for: the queue keeps the order."""
    monkeypatch.setattr(direct, "AWAY_SECONDS", 3600)
    queued = await _queued(workshop)
    async with workshop.working():
        await asyncio.sleep(0.5)
        assert (await workshop.task(queued)).status == TaskStatus.QUEUED
        memory_broker.hear()
        await workshop.finished(queued)


async def test_who_consumes_leaves_the_store_alone(workshop: Workshop, memory_broker: DeafBroker) -> None:
    """However long it has nothing to do: what is queued is the queue's."""
    memory_broker.hear()
    async with workshop.working():
        payload = await workshop.record("sum")
        await workshop.store.mark_queued([Dispatched(payload.id, 0, system_clock())])
        await asyncio.sleep(0.8)
        assert (await workshop.task(payload.id)).status == TaskStatus.QUEUED


async def test_a_suspect_runs_alone_without_the_broker_too(workshop: Workshop, gate: Gate) -> None:
    """The way to the worker is another, its rules are the same."""
    async with workshop.working(_gated(gate)):
        await _due(workshop, "wait")
        await gate.arrived(1)
        suspect = await _due(workshop)
        change(workshop.database, "UPDATE tasks SET lost = 2, due_at = 1 WHERE id = ?", suspect)
        await asyncio.sleep(0.5)
        assert (await workshop.task(suspect)).status == TaskStatus.PENDING
        gate.open()
        await workshop.finished(suspect)

    assert workshop.column(suspect, "alone") == 1


async def test_a_stop_without_the_broker_hands_nothing_half_back(workshop: Workshop, gate: Gate) -> None:
    """What runs is finished; what has not begun stays in the store for others."""
    async with workshop.working(_gated(gate), channels=1, prefetch_count=2, shutdown_grace_seconds=3600) as working:
        task_ids = [await _due(workshop, "wait") for _ in range(4)]
        await gate.arrived(2)
        stopping = asyncio.create_task(working.stop())
        await asyncio.sleep(0.2)
        gate.open()
        await stopping

    statuses = sorted([(await workshop.task(task_id)).status.value for task_id in task_ids])
    assert statuses == ["completed", "completed", "pending", "pending"]


async def test_recalling_takes_high_ones_first_and_no_more_than_asked(store: TaskStore, database: Path) -> None:
    """Of those that are queued, and of no others."""
    now = system_clock()
    for number in range(4):
        message = TaskMessage(id=str(number), action="sum")
        await store.add(message.payload(0), now + 60_000, TaskOptions(priority=HIGH if number == 3 else 0))
    await store.mark_queued([Dispatched(str(number), 0, now + number) for number in range(1, 4)])

    assert await store.recall(2) == 2

    due = rows(database, "SELECT id FROM tasks WHERE status = 'pending' AND due_at <= ? ORDER BY id", system_clock())
    assert due == [("1",), ("3",)]
    assert [await store.recall(2), await store.recall(2)] == [1, 0]


async def _due(workshop: Workshop, name: str = "sum") -> str:
    """A task as the API records it while the broker is away."""
    payload = await workshop.record(name)
    change(workshop.database, "UPDATE tasks SET due_at = 1 WHERE id = ?", payload.id)
    return payload.id


async def _queued(workshop: Workshop, *, high: bool = False) -> str:
    payload = await workshop.record("note")
    if high:
        change(workshop.database, "UPDATE tasks SET priority = 5 WHERE id = ?", payload.id)
    message = TaskMessage.of(payload, 0, system_clock(), priority=HIGH if high else 0)
    await workshop.broker.publish([message.encode()], message.priority)
    await workshop.store.mark_queued([Dispatched(payload.id, 0, message.dispatched_at)])
    await asyncio.sleep(0.002)  # the next one is younger
    return payload.id


async def _idle(broker: DeafBroker) -> bool:
    return await broker.ready_count() == 0 and not any(channel.unsettled for channel in broker._channels)


def _noting(order: list[str]) -> Action:
    @action("note")
    async def note(_: dict[str, Any], context: Any) -> None:
        order.append(context.task_id)

    return note


def _gated(gate: Gate) -> Action:
    @action("wait")
    async def wait(_: dict[str, Any]) -> str:
        await gate.pass_through()
        return "done"

    return wait


async def test_what_was_taken_before_the_store_failed_is_done(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not when the lease on it has run out."""

    async def fail(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(workshop.store, "recall", fail)
    task_id = await _due(workshop)

    messages = await direct.DirectSupply(workshop.store, system_clock, 5).take(3)

    assert [message.id for message in messages] == [task_id]
    assert len(workshop.reports(events.SWEEP_FAILED)) == 1
