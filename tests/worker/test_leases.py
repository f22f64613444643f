"""A task belongs to a worker for as long as that worker shows that it lives, and to nobody else meanwhile."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from taskqueue import events
from taskqueue.actions import Action, action
from taskqueue.clock import system_clock
from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue_worker import ledger, running
from taskqueue_worker.settings import WorkSettings
from tests.support.database import change
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop

SHIPPED_RENEW_SECONDS = running.RENEW_SECONDS
TAKEN_BY_ANOTHER = "UPDATE tasks SET attempt = attempt + 1, worker = 'another' WHERE id = ?"


async def test_a_task_may_take_longer_than_its_lease(workshop: Workshop, gate: Gate) -> None:
    """The lease is renewed while the handler works: one attempt, however long it takes."""
    async with workshop.working(_gated(gate), lease_seconds=2):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        first_lease = workshop.column(task_id, "due_at")
        await eventually(lambda: system_clock() > first_lease + 500, what="the end of the first lease")
        gate.open()
        task = await workshop.finished(task_id)

    assert (task.status, task.attempts, gate.arrivals) == (TaskStatus.COMPLETED, 1, 1)


async def test_a_blocking_handler_keeps_its_lease_too(workshop: Workshop, gate: Gate) -> None:
    """A thread that works does not keep the loop from renewing."""

    @action("block")
    def block(_: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(gate.pass_through(), loop).result()

    loop = asyncio.get_running_loop()
    async with workshop.working(block, lease_seconds=60):
        task_id = await workshop.submit("block")
        await gate.arrived()
        first_lease = workshop.column(task_id, "due_at")

        await eventually(lambda: workshop.column(task_id, "due_at") > first_lease, what="a renewal")
        gate.open()
        await workshop.finished(task_id)


async def test_a_message_that_comes_again_does_not_cost_a_living_worker_its_task(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is cut short to prove that the worker lives, and a renewal proves it."""
    monkeypatch.setattr(ledger, "CHALLENGE_SECONDS", 30.0)
    async with workshop.working(_gated(gate), lease_seconds=3600):
        payload = await workshop.record("wait")
        message = TaskMessage.of(payload, 0, 0).encode()
        await workshop.broker.publish([message])
        await gate.arrived()
        await workshop.broker.publish([message])
        await workshop.outcome("sum")

        await eventually(
            lambda: workshop.column(payload.id, "due_at") > system_clock() + 3_000_000, what="a renewal of an hour"
        )
        gate.open()
        task = await workshop.finished(payload.id)

    assert (task.status, task.attempts, gate.arrivals) == (TaskStatus.COMPLETED, 1, 1)


async def test_a_message_that_comes_again_brings_a_dead_workers_task_back_soon(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody renews, so the task is due after the challenge, and not only after an hour of lease."""
    monkeypatch.setattr(ledger, "CHALLENGE_SECONDS", 0.2)
    gate.open()
    payload = await workshop.record("wait")
    change(
        workshop.database,
        "UPDATE tasks SET status = 'running', attempt = 1, due_at = ?, worker = 'dead'",
        system_clock() + 3_600_000,
    )

    async with workshop.working(_gated(gate)):
        await workshop.broker.publish([TaskMessage.of(payload, 0, 0).encode()])
        task = await workshop.finished(payload.id)

    assert (task.status, workshop.column(payload.id, "attempt")) == (TaskStatus.COMPLETED, 2)


async def test_a_worker_that_lost_its_lease_stops_and_records_nothing(workshop: Workshop) -> None:
    """Its handler is cancelled, so that it does no more harm, and the row is left to the other attempt."""
    began, cancelled = asyncio.Event(), asyncio.Event()

    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with workshop.working(wait, lease_seconds=3600):
        task_id = await workshop.submit("wait")
        await began.wait()
        change(workshop.database, TAKEN_BY_ANOTHER, task_id)

        await cancelled.wait()
        await workshop.reported(events.LEASE_LOST)
        assert (await workshop.outcome("sum")).status == TaskStatus.COMPLETED

    task = await workshop.task(task_id)
    assert (task.status, task.attempts, task.error) == (TaskStatus.RUNNING, 2, None)
    assert workshop.column(task_id, "worker") == "another"


async def test_a_result_that_comes_after_the_lease_was_lost_is_not_recorded(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen, and wakes up, cannot overwrite what another attempt does."""
    monkeypatch.setattr(running, "RENEW_SECONDS", 3600)
    async with workshop.working(_gated(gate), lease_seconds=3600):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        change(workshop.database, TAKEN_BY_ANOTHER, task_id)

        gate.open()
        await workshop.reported(events.LEASE_LOST)

    task = await workshop.task(task_id)
    assert (task.status, task.attempts, task.result) == (TaskStatus.RUNNING, 2, None)


async def test_a_task_that_takes_its_worker_with_it_each_time_is_failed(workshop: Workshop, gate: Gate) -> None:
    """An attempt counts from its claim on, so that a task that kills does not kill for ever."""
    payload = await workshop.record("wait")
    change(workshop.database, "UPDATE tasks SET status = 'running', attempt = 5, alone = 1, due_at = 1")

    async with workshop.working(_gated(gate), max_attempts=5):
        task = await workshop.finished(payload.id)

    assert (task.status, task.attempts, gate.arrivals) == (TaskStatus.FAILED, 5, 0)
    assert task.error == "the worker was lost in the last attempt allowed"


async def test_cancelling_a_running_task_stops_its_handler(workshop: Workshop, gate: Gate) -> None:
    """Whatever ends a task from outside, the worker finds out at its next renewal."""
    async with workshop.working(_gated(gate)):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        change(workshop.database, "UPDATE tasks SET status = 'cancelled', due_at = NULL WHERE id = ?", task_id)

        await workshop.reported(events.LEASE_LOST)

    assert (await workshop.task(task_id)).status == TaskStatus.CANCELLED


@pytest.mark.parametrize("renewals", [0.5, 1, 2, 4])
def test_a_lease_of_few_renewals_is_refused(renewals: float) -> None:
    """The first renewal may take two rounds, and a slow commit must not cost a living worker its task."""
    with pytest.raises(ValidationError):
        WorkSettings(lease_seconds=renewals * SHIPPED_RENEW_SECONDS)


def test_a_challenge_is_several_renewals_long() -> None:
    """A worker that lives has time to prove it."""
    assert running.CHALLENGE_SECONDS >= 3 * SHIPPED_RENEW_SECONDS


def _gated(gate: Gate) -> Action:
    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        await gate.pass_through()

    return wait
