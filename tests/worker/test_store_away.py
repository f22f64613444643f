"""The database comes and goes: work waits for it, and nothing is lost or done twice."""

from typing import Any

import pytest

from taskqueue import events
from taskqueue.actions import Action, action
from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue.store import sqlite
from tests.support.database import write_locked
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database gives up on locks at once, as it does after five seconds in production."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)


async def test_a_task_waits_for_the_database_to_be_claimed(workshop: Workshop) -> None:
    """The message stays in the worker's hands, and the task is performed when the database is back."""
    payload = await workshop.record("sum", {"numbers": [1, 2]})
    async with workshop.working():
        with write_locked(workshop.database):
            await workshop.broker.publish([TaskMessage.of(payload, 0, 0).encode()])
            await eventually(lambda: len(workshop.reports(events.CLAIM_POSTPONED)) > 1, what="several tries")

        task = await workshop.finished(payload.id)

    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, {"output": 3}, 1)
    assert not workshop.broker.dead_letters


async def test_a_result_waits_for_the_database_to_be_recorded(workshop: Workshop, gate: Gate) -> None:
    """What was done is not done again for the want of a database."""
    async with workshop.working(_gated(gate), lease_seconds=3600):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        with write_locked(workshop.database):
            gate.open()
            await eventually(lambda: len(workshop.reports(events.SETTLE_POSTPONED)) > 1, what="several tries")

        task = await workshop.finished(task_id)

    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, "done", 1)
    assert gate.arrivals == 1


async def test_an_outage_longer_than_the_lease_costs_an_attempt_and_no_task(workshop: Workshop, gate: Gate) -> None:
    """Renewals that fail do not stop the handler; the task ends once, by this attempt or by the next."""
    async with workshop.working(_gated(gate), lease_seconds=1):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        with write_locked(workshop.database):
            await eventually(lambda: workshop.reports(events.SWEEP_FAILED), what="a sweep that finds the task due")
            gate.open()
            await workshop.reported(events.SETTLE_POSTPONED)

        task = await workshop.finished(task_id)

    assert (task.status, task.result) == (TaskStatus.COMPLETED, "done")
    assert task.attempts <= 2
    assert len(workshop.reports(events.TASK_COMPLETED)) == 1


async def test_the_worker_stops_in_time_while_the_database_is_away(workshop: Workshop, gate: Gate) -> None:
    """What cannot be recorded within the grace is left to its lease, and holds nobody up."""
    async with workshop.working(_gated(gate), shutdown_grace_seconds=0.4) as working:
        task_id = await workshop.submit("wait")
        await gate.arrived()
        with write_locked(workshop.database):
            gate.open()
            await workshop.reported(events.SETTLE_POSTPONED)

            await working.stop()

    # The last try may still be under way when the lock is free.
    assert (await workshop.task(task_id)).status in (TaskStatus.RUNNING, TaskStatus.COMPLETED)


def _gated(gate: Gate) -> Action:
    @action("wait")
    async def wait(_: dict[str, Any]) -> str:
        await gate.pass_through()
        return "done"

    return wait
