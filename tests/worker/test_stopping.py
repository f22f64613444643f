"""A worker that is asked to stop takes no more, finishes what it can, hands back the rest, and ends."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskqueue import events
from taskqueue.actions import Action, action
from taskqueue.clock import system_clock
from taskqueue.schema import TaskStatus
from taskqueue_worker import handling, worker
from tests.support.database import change
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop

SHORT = {"shutdown_grace_seconds": 10}


@pytest.fixture(autouse=True)
def _early_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a short grace, little is for finishing, and much for handing back, which needs no patience when it is done."""
    monkeypatch.setattr(worker, "HAND_BACK_SHARE", 0.97)


async def test_what_finishes_within_the_grace_is_recorded(workshop: Workshop, gate: Gate) -> None:
    """The worker waits for its handlers, and then ends."""
    async with workshop.working(_gated(gate), shutdown_grace_seconds=3600) as working:
        task_id = await workshop.submit("wait")
        await gate.arrived()
        stopping = asyncio.create_task(working.stop())
        await eventually(lambda: not working.worker.consuming, what="the end of consuming")
        gate.open()
        await stopping

    task = await workshop.task(task_id)
    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, "done", 1)


async def test_a_worker_with_nothing_in_hand_stops_at_once(workshop: Workshop) -> None:
    """The grace is not waited for without a reason."""
    async with workshop.working(shutdown_grace_seconds=3600) as working:
        await workshop.outcome("sum")

        await working.stop()


async def test_a_stopping_worker_takes_no_more(workshop: Workshop, gate: Gate) -> None:
    """What comes after the stop waits for another worker."""
    async with workshop.working(_gated(gate), shutdown_grace_seconds=3600) as working:
        await workshop.submit("wait")
        await gate.arrived()
        stopping = asyncio.create_task(working.stop())
        await eventually(lambda: not working.worker.consuming, what="the end of consuming")
        late = await workshop.submit("sum")
        gate.open()
        await stopping

    assert (await workshop.task(late)).status == TaskStatus.QUEUED
    assert await workshop.broker.ready_count() == 1


async def test_what_does_not_finish_is_handed_back(workshop: Workshop, gate: Gate) -> None:
    """Pending and due at once, for any worker; that attempt was cut short by us, so it does not count."""
    async with workshop.working(_gated(gate), max_attempts=1, **SHORT) as working:
        task_id = await workshop.submit("wait")
        await gate.arrived()
        _away_from_the_sweep(workshop)

        await working.stop()

    task = await workshop.task(task_id)
    assert (task.status, task.attempts, task.error) == (TaskStatus.PENDING, 0, None)
    assert workshop.column(task_id, "forgiven") == 1
    assert workshop.column(task_id, "due_at") <= system_clock()
    [entry] = workshop.reports(events.TASK_HANDED_BACK)
    assert (entry["task_id"], entry["attempt"]) == (task_id, 1)


async def test_the_next_worker_finishes_what_was_handed_back(workshop: Workshop, gate: Gate) -> None:
    """However often workers are restarted, the attempts that a task has are its own."""
    task_id = await workshop.submit("wait")
    for restart in range(1, 4):
        async with workshop.working(_gated(gate), max_attempts=1, **SHORT) as working:
            await gate.arrived(restart)
            await working.stop()
        await _take_back(workshop)

    gate.open()
    async with workshop.working(_gated(gate), max_attempts=1):
        task = await workshop.finished(task_id)

    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, "done", 1)
    assert workshop.column(task_id, "forgiven") == 3


async def test_attempts_that_were_handed_back_do_not_count(workshop: Workshop, gate: Gate) -> None:
    """Two attempts are allowed: two fail, whatever was cut short before them."""

    @action("fail")
    async def fail(_: dict[str, Any]) -> None:
        raise ValueError("no")

    payload = await workshop.record("fail")
    change(workshop.database, "UPDATE tasks SET attempt = 3, forgiven = 3, due_at = 1")
    async with workshop.working(fail, max_attempts=2):
        task = await workshop.finished(payload.id)

    assert (task.status, task.attempts) == (TaskStatus.FAILED, 2)
    assert workshop.column(task.id, "attempt") == 5


async def test_a_handler_that_ends_while_it_is_cut_short_has_succeeded(workshop: Workshop) -> None:
    """What it returns is recorded, and not thrown away for being late."""
    began = asyncio.Event()

    @action("hurry")
    async def hurry(_: dict[str, Any]) -> str:
        began.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "just in time"
        return "never"

    async with workshop.working(hurry, **SHORT) as working:
        task_id = await workshop.submit("hurry")
        await began.wait()
        await working.stop()

    task = await workshop.task(task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "just in time")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets hanging handlers go at the latest when the test ends."""
    release = threading.Event()
    yield release
    release.set()


async def test_a_blocking_handler_that_hangs_is_handed_back(workshop: Workshop, release: threading.Event) -> None:
    """Its thread cannot be stopped, but the worker does not wait for it."""
    began = threading.Event()

    @action("hang")
    def hang(_: dict[str, Any]) -> None:
        began.set()
        release.wait()

    async with workshop.working(hang, **SHORT) as working:
        task_id = await workshop.submit("hang")
        await eventually(began.is_set, what="the handler")
        _away_from_the_sweep(workshop)
        await working.stop()

    assert (await workshop.task(task_id)).status == TaskStatus.PENDING
    assert workshop.column(task_id, "forgiven") == 1


async def test_a_handler_that_will_not_be_cancelled_is_handed_back(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left to itself, and fenced: the task does not wait until its lease runs out."""
    monkeypatch.setattr(handling, "CANCEL_SECONDS", 0.1)
    began = asyncio.Event()

    @action("stay")
    async def stay(_: dict[str, Any]) -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await gate.pass_through()

    async with workshop.working(stay, **SHORT) as working:
        task_id = await workshop.submit("stay")
        await began.wait()
        _away_from_the_sweep(workshop)
        await working.stop()
    gate.open()

    assert (await workshop.task(task_id)).status == TaskStatus.PENDING
    assert workshop.column(task_id, "forgiven") == 1


def _away_from_the_sweep(workshop: Workshop) -> None:
    """What is handed back from now on is not dispatched again by the stopping worker's own sweep."""
    workshop.broker.connected = False


async def _take_back(workshop: Workshop) -> None:
    """Between two workers, as when a process ends: the messages in memory are gone, and what was queued is due."""
    workshop.broker._ready = type(workshop.broker._ready)()
    await workshop.store.resume()


def _gated(gate: Gate) -> Action:
    @action("wait")
    async def wait(_: dict[str, Any]) -> str:
        await gate.pass_through()
        return "done"

    return wait
