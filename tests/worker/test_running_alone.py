"""A suspect, which has lost its workers before, runs beside no other; and whoever waits for it has claimed nothing."""

import asyncio
from typing import Any

from taskqueue.actions import Action, action
from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue.store.queueing import Dispatched
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop


async def test_a_suspect_waits_for_those_that_run_and_the_others_wait_for_it(workshop: Workshop, gate: Gate) -> None:
    """None of those that wait is claimed, so that none is lost with a worker that the suspect kills."""
    suspected = Gate()
    async with workshop.working(_gated("wait", gate), _gated("suspect", suspected)):
        running = await workshop.submit("wait")
        await gate.arrived(1)
        suspect = await _submit_suspect(workshop)
        await _delivered(workshop, 2)
        after = await workshop.submit("wait")
        await _delivered(workshop, 3)
        assert await _statuses(workshop, running, suspect, after) == ["running", "queued", "queued"]

        gate.open()
        await suspected.arrived(1)
        assert await _statuses(workshop, running, suspect, after) == ["completed", "running", "queued"]
        assert workshop.column(suspect, "alone") == 1

        suspected.open()
        assert (await workshop.finished(suspect)).status == TaskStatus.COMPLETED
        assert (await workshop.finished(after)).status == TaskStatus.COMPLETED
    assert workshop.column(after, "alone") == 0


async def test_a_stopping_worker_releases_what_waits_before_its_claim(workshop: Workshop, gate: Gate) -> None:
    """It goes back to the queue at once, for other workers, while this one finishes what it has begun."""
    async with workshop.working(_gated("wait", gate), shutdown_grace_seconds=3600) as working:
        running = await workshop.submit("wait")
        await gate.arrived(1)
        suspect = await _submit_suspect(workshop)
        after = await workshop.submit("wait")
        await _delivered(workshop, 3)

        stopping = asyncio.create_task(working.stop())
        await eventually(lambda: _ready(workshop, 2), what="the release of both")
        assert await _statuses(workshop, running, suspect, after) == ["running", "queued", "queued"]
        gate.open()
        await stopping

    assert (await workshop.task(running)).status == TaskStatus.COMPLETED


async def _submit_suspect(workshop: Workshop) -> str:
    payload = await workshop.record("suspect")
    message = TaskMessage.of(payload, 0, payload.created_at * 1000, alone=True)
    await workshop.broker.publish([message.encode()])
    await workshop.store.mark_queued([Dispatched(payload.id, 0, message.dispatched_at)])
    return payload.id


def _gated(name: str, gate: Gate) -> Action:
    @action(name)
    async def wait(_: dict[str, Any]) -> str:
        await gate.pass_through()
        return "done"

    return wait


async def _statuses(workshop: Workshop, *task_ids: str) -> list[str]:
    return [(await workshop.task(task_id)).status.value for task_id in task_ids]


async def _delivered(workshop: Workshop, count: int) -> None:
    def unsettled() -> int:
        return sum(len(channel.unsettled) for channel in workshop.broker._channels)

    await eventually(lambda: unsettled() == count, what=f"{count} messages in the worker's hands")
    await asyncio.sleep(0.1)  # a wrong claim would be made by now


async def _ready(workshop: Workshop, count: int) -> bool:
    return await workshop.broker.ready_count() == count
