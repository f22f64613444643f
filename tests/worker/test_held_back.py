"""Normal tasks under a flood of high ones that does not end, at a broker that hands out nothing else while they wait.

RabbitMQ is so from 4.3 on. Here it is the memory broker without a share for normal messages, and a real RabbitMQ whose
queue is a classic one with priorities: strict in every version, by the same driver.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from taskqueue import events, sweep
from taskqueue.broker.amqp import topology
from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import Broker
from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import milliseconds, system_clock
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS, Dispatcher
from taskqueue.schema import HIGH, NORMAL, TaskOptions, TaskPayload, TaskStatus
from taskqueue.store.sweeps import Ready
from tests.support.builders import a_payload
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.rabbitmq import RabbitMQ
from tests.worker.conftest import Workshop

FLOOD = 200
"""So many high tasks wait, many more than a worker holds."""

AT_ONCE = 10


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.docker)])
async def memory_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """A strict broker, which the workshop works with."""
    if request.param == "memory":
        yield MemoryBroker(high_in_a_row=sys.maxsize)
        return
    monkeypatch.setattr(topology, "_QUEUE_ARGUMENTS", {"x-queue-type": "classic", "x-max-priority": 9})
    rabbitmq: RabbitMQ = request.getfixturevalue("clean_rabbitmq")
    async with open_broker(rabbitmq.url, "strict") as broker:
        await eventually(lambda: broker.connected, within=30, what="a connection")
        yield broker
    rabbitmq.forget_queues()


async def test_without_the_raising_a_strict_broker_starves_them(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next test is there for: it would show nothing at a broker that shares."""
    monkeypatch.setattr(sweep, "RAISE_AFTER_SECONDS", 3600)
    flood = _Flood(workshop)
    [normal] = await flood.post(1, NORMAL)
    await flood.post(FLOOD, HIGH)

    async with workshop.working():
        await workshop.finished(normal.id, within=60)

    earlier = "SELECT count(*) FROM tasks WHERE started_at <= (SELECT started_at FROM tasks WHERE id = ?)"
    [(started,)] = rows(workshop.database, earlier, normal.id)
    assert started > FLOOD - AT_ONCE


async def test_a_lasting_flood_of_high_tasks_does_not_starve_normal_ones(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are all done while the flood goes on, once each, the oldest first, and the high ones keep the most."""
    monkeypatch.setattr(sweep, "RAISE_AFTER_SECONDS", 0.2)
    async with _flooded(workshop) as flood:
        normal = await flood.post(60, NORMAL)
        tasks = [await workshop.finished(payload.id, within=60) for payload in normal]
        high = flood.done(HIGH)

    assert {(task.status, task.attempts) for task in tasks} == {(TaskStatus.COMPLETED, 1)}
    assert high >= len(normal)
    assert workshop.reports(events.TASKS_RAISED)
    assert not workshop.reports(events.MESSAGES_LOST)


class _Flood:
    """High tasks that are posted as fast as they are done."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._dispatcher = Dispatcher(workshop.broker, workshop.store, system_clock)

    async def run(self) -> None:
        while True:
            if (missing := FLOOD - self._waiting()) > FLOOD // 4:
                await self.post(missing, HIGH)
            await asyncio.sleep(0.02)

    async def post(self, count: int, priority: int) -> list[TaskPayload]:
        due_at = system_clock() + milliseconds(DISPATCH_LEASE_SECONDS)
        payloads = [a_payload(action="sum") for _ in range(count)]
        options = TaskOptions(priority=priority, tags=(str(priority),))
        await asyncio.gather(*(self._workshop.store.add(payload, due_at, options) for payload in payloads))
        await self._dispatcher._publish([Ready(payload, attempt=0, priority=priority) for payload in payloads])
        await self._dispatcher._note_confirmed()
        return payloads

    def done(self, priority: int) -> int:
        """How many of those that were posted with this priority are completed."""
        query = "SELECT count(*) FROM tasks WHERE status = 'completed' AND tags = ?"
        return int(rows(self._workshop.database, query, f'["{priority}"]')[0][0])

    def _waiting(self) -> int:
        query = "SELECT count(*) FROM tasks WHERE status = 'queued' AND tags = ?"
        return int(rows(self._workshop.database, query, f'["{HIGH}"]')[0][0])


@asynccontextmanager
async def _flooded(workshop: Workshop) -> AsyncIterator[_Flood]:
    """A worker that never sees the end of high tasks, for as long as the block runs."""
    flood = _Flood(workshop)
    await flood.post(FLOOD, HIGH)
    async with workshop.working(simulated_work_seconds=0.03):
        pouring = asyncio.create_task(flood.run())
        try:
            yield flood
        finally:
            pouring.cancel()
            await asyncio.wait({pouring})
