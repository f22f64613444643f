"""A handler at work tells how far it is, and hears that it must end."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, cast

import pytest

from taskqueue import events
from taskqueue.actions import Context, action
from taskqueue.clock import system_clock
from taskqueue.errors import WorkerExhausted
from taskqueue.schema import TaskStatus
from taskqueue.store.doors.working import Working
from taskqueue_worker import handling, running, threads, worker
from taskqueue_worker.running import RunningAttempts
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Running, Workshop


async def test_an_async_handler_is_cancelled_when_its_task_is_called_off(workshop: Workshop, gate: Gate) -> None:
    """Within a second; it can clean up, and the task is `cancelled`, not to be tried again."""
    cleaned_up = asyncio.Event()

    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        try:
            await gate.pass_through()
        finally:
            cleaned_up.set()

    async with workshop.working(wait):
        task_id = await workshop.submit("wait")
        await gate.arrived()
        workshop.call_off(task_id)
        task = await workshop.finished(task_id, within=1)
        report = await workshop.reported(events.TASK_CANCELLED)

    assert (task.status, task.attempts, task.error) == (TaskStatus.CANCELLED, 1, "cancelled while it was running")
    assert cleaned_up.is_set()
    assert report["task_id"] == task_id
    assert '"outcome":"cancelled"' in workshop.column(task_id, "history")


async def test_a_handler_that_does_not_let_itself_be_cancelled_is_left_to_itself(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever called the task off need not wait for it, however patient the worker is with handlers that time out."""
    monkeypatch.setattr(handling, "CANCEL_SECONDS", 600)

    @action("stay")
    async def stay(_: dict[str, Any]) -> None:
        for _again in range(2):
            with suppress(asyncio.CancelledError):
                await gate.pass_through()

    async with workshop.working(stay):
        task_id = await workshop.submit("stay")
        await gate.arrived()
        workshop.call_off(task_id)
        task = await workshop.finished(task_id)
        gate.open()

    assert (task.status, task.attempts) == (TaskStatus.CANCELLED, 1)


async def test_an_attempt_that_fails_before_it_hears_of_the_cancel_is_told_as_it_was_recorded(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store makes a cancelled task of it, which the log must not call one that is tried again."""
    monkeypatch.setattr(running, "WATCH_SECONDS", 3600)

    @action("fail")
    async def fail(_: dict[str, Any]) -> None:
        await gate.pass_through()
        raise ValueError("no")

    async with workshop.working(fail):
        task_id = await workshop.submit("fail")
        await gate.arrived()
        workshop.call_off(task_id)
        gate.open()
        task = await workshop.finished(task_id)
        report = await workshop.reported(events.TASK_CANCELLED)

    assert (task.status, report["task_id"]) == (TaskStatus.CANCELLED, task_id)
    assert workshop.reports(events.TASK_RETRIED) == []


async def test_only_the_task_that_was_called_off_is_cancelled(workshop: Workshop, gate: Gate) -> None:
    """Its neighbours work on."""

    @action("wait")
    async def wait(_: dict[str, Any]) -> str:
        await gate.pass_through()
        return "done"

    async with workshop.working(wait):
        first, second = [await workshop.submit("wait") for _ in range(2)]
        await gate.arrived(2)
        workshop.call_off(first)
        await workshop.finished(first, within=1)
        gate.open()

        assert (await workshop.finished(second)).result == "done"


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets hanging handlers go at the latest when the test ends."""
    release = threading.Event()
    yield release
    release.set()


async def test_a_thread_sees_that_its_task_was_called_off(workshop: Workshop) -> None:
    """It looks into its context now and then; the task does not wait for it to look."""
    began, seen = threading.Event(), threading.Event()

    @action("look")
    def look(_: dict[str, Any], context: Context) -> None:
        began.set()
        while not context.cancelled:
            time.sleep(0.01)
        seen.set()

    async with workshop.working(look):
        task_id = await workshop.submit("look")
        await eventually(began.is_set, what="the handler")
        assert not seen.is_set()
        workshop.call_off(task_id)
        task = await workshop.finished(task_id, within=1)
        await eventually(seen.is_set, what="the thread that sees it")

    assert task.status == TaskStatus.CANCELLED


async def test_a_thread_sees_that_it_timed_out(workshop: Workshop) -> None:
    """In the same way."""
    seen = threading.Event()

    @action("look", timeout=0.1, max_attempts=1)
    def look(_: dict[str, Any], context: Context) -> None:
        while not context.cancelled:
            time.sleep(0.01)
        seen.set()

    async with workshop.working(look):
        await workshop.outcome("look")
        await eventually(seen.is_set, what="the thread that sees it")


async def test_progress_is_kept_and_the_last_report_always(workshop: Workshop, gate: Gate) -> None:
    """While the handler works, within a moment; and what it reported just before its end."""

    @action("count")
    async def count(_: dict[str, Any], context: Context) -> None:
        await context.progress(0.4, "four of ten")
        await gate.pass_through()
        await context.progress(1, "all")

    async with workshop.working(count):
        task_id = await workshop.submit("count")
        await eventually(lambda: workshop.column(task_id, "progress"), what="progress")
        assert json.loads(workshop.column(task_id, "progress")) == {"fraction": 0.4, "message": "four of ten"}
        gate.open()
        await workshop.finished(task_id)

    assert json.loads(workshop.column(task_id, "progress")) == {"fraction": 1, "message": "all"}


async def test_a_blocking_handler_reports_from_its_thread(workshop: Workshop) -> None:
    """By a plain call."""

    @action("count")
    def count(_: dict[str, Any], context: Context) -> None:
        context.report_progress(0.5)

    async with workshop.working(count):
        task = await workshop.outcome("count")

    assert json.loads(workshop.column(task.id, "progress")) == {"fraction": 0.5, "message": None}


async def test_a_handler_that_reports_all_the_time_costs_few_writes(workshop: Workshop) -> None:
    """A few a second, however often it reports."""

    @action("count", timeout=10)
    async def count(_: dict[str, Any], context: Context) -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            await context.progress(0.5)

    async with workshop.working(count):
        task = await workshop.outcome("count")

    query = "SELECT count(*) FROM changes WHERE task_id = ? AND detail IS NOT NULL"
    [(writes,)] = rows(workshop.database, query, task.id)
    assert 2 <= writes <= 6


async def test_a_progress_that_is_none_fails_the_handler(workshop: Workshop) -> None:
    """With a sentence."""

    @action("count", max_attempts=1)
    async def count(_: dict[str, Any], context: Context) -> None:
        await context.progress(40)

    async with workshop.working(count):
        task = await workshop.outcome("count")

    assert task.error == "ValueError: progress is a fraction from 0 to 1"


class _Half:
    """A number of another library: no float, but as good as one."""

    def __float__(self) -> float:
        return 0.5


async def test_a_progress_of_any_number_and_text_is_kept(workshop: Workshop, gate: Gate) -> None:
    """What JSON cannot hold neither costs the task its result nor ends the watch over all the others."""

    @action("report")
    async def report(_: dict[str, Any], context: Context) -> str:
        number: Any = _Half()
        await context.progress(number, "half\ud800way" + "y" * 500)
        await gate.pass_through()
        return "done"

    async with workshop.working(report) as working:
        task_id = await workshop.submit("report")
        await eventually(lambda: workshop.column(task_id, "progress"), what="progress")
        gate.open()
        task = await workshop.finished(task_id)
        assert not working.run.done()

    assert task.result == "done"
    told = json.loads(workshop.column(task_id, "progress"))
    assert (told["fraction"], told["message"][:8], len(told["message"])) == (0.5, "half?way", 500)


async def test_a_worker_whose_watch_fails_ends(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be started again: one that renews no lease loses every task, and must not seem to be well."""
    renewals = 0

    async def fail(*_: Any) -> bool:
        nonlocal renewals
        renewals += 1
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(workshop.store, "renew", fail)

    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        await asyncio.sleep(3600)

    async with _ending(workshop.working(wait), BaseExceptionGroup) as working:
        await workshop.submit("wait")
        await eventually(working.run.done, what="the end of the worker")

    assert "a fault of our own" in repr(working.run.exception())
    assert renewals == 1


async def test_an_execution_that_breaks_names_its_task(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log, where it is the only trace of what happened to which task."""

    async def fail(*_: Any) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(workshop.store, "claim", fail)
    async with workshop.working():
        task_id = await workshop.submit("sum")
        report = await workshop.reported(events.EXECUTION_BROKE)

    assert (report["task_id"], report["action"]) == (task_id, "sum")


async def test_what_a_handler_logs_names_its_task(workshop: Workshop) -> None:
    """And the trace that it belongs to."""
    trace = "0af7651916cd43dd8448eb211c80319c"

    @action("log")
    def log(_: dict[str, Any], context: Context) -> None:
        context.logger.info("a line", width=3)

    payload = await workshop.record("log")
    change(workshop.database, "UPDATE tasks SET traceparent = ?, due_at = 1", f"00-{trace}-b7ad6b7169203331-01")
    async with workshop.working(log):
        await workshop.finished(payload.id)
        completed = await workshop.reported(events.TASK_COMPLETED)

    [line] = [entry for entry in workshop.log if entry["event"] == "a line"]
    expected = {"task_id": payload.id, "action": "log", "attempt": 1, "trace_id": trace, "width": 3}
    assert expected.items() <= line.items()
    assert completed["trace_id"] == trace


async def test_a_worker_with_too_many_hung_handlers_stops(
    workshop: Workshop, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no more, hands back what it has, and ends by a failure, so that it is started again."""
    monkeypatch.setattr(threads, "ABANDONED_LIMIT", 3)

    @action("hang", timeout=0.1, max_attempts=1)
    def hang(_: dict[str, Any]) -> None:
        release.wait()

    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(worker, "HAND_BACK_SHARE", 0.97)
    async with _ending(workshop.working(hang, wait, shutdown_grace_seconds=10)) as working:
        waiting = await workshop.submit("wait")
        for _ in range(2):
            await workshop.outcome("hang")
        await workshop.outcome("sum")
        assert not working.run.done()

        await workshop.submit("hang")
        await eventually(working.run.done, what="the end of the worker")
        assert not working.worker.consuming

    assert workshop.column(waiting, "forgiven") == 1


@asynccontextmanager
async def _ending(
    working: AbstractAsyncContextManager[Running], failure: type[BaseException] = WorkerExhausted
) -> AsyncIterator[Running]:
    """A worker that ends by the failure in question."""
    with pytest.raises(failure):
        async with working as run:
            yield run


async def test_handlers_that_end_in_the_end_do_not_stop_a_worker(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those count that are still there."""
    monkeypatch.setattr(threads, "ABANDONED_LIMIT", 3)

    @action("late", timeout=0.05, max_attempts=1)
    def late(_: dict[str, Any], context: Context) -> None:
        while not context.cancelled:
            time.sleep(0.01)

    async with workshop.working(late) as working:
        for _ in range(6):
            await workshop.outcome("late")
            await asyncio.sleep(0.05)

        assert not working.run.done()


async def test_a_worker_without_work_does_not_wake_to_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for what was called off nor for leases: an idle worker is to cost nothing."""
    attempts = RunningAttempts(cast("Working", None), system_clock, lease=1_000, name="idle")
    waits: list[float] = []
    sleep = asyncio.sleep

    async def sleep_shortly(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep_shortly)
    looking = [asyncio.create_task(attempts.watch()), asyncio.create_task(attempts.renew_leases())]
    for _ in range(20):
        await sleep(0)
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)

    assert waits == []
