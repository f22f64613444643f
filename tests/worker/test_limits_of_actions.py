"""What an action says of its attempts, and what a handler asks for by an exception."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskqueue.actions import Backoff, Context, Fail, RetryAfter, action
from taskqueue.clock import system_clock
from taskqueue.schema import TaskStatus
from tests.support.database import change
from tests.support.eventually import eventually
from tests.worker.conftest import Workshop


async def test_the_timeout_of_an_action_goes_before_the_setting(workshop: Workshop) -> None:
    """And is what the context's deadline is made of."""
    left: list[float] = []

    @action("sleep", timeout=0.2, max_attempts=1)
    async def sleep(_: dict[str, Any], context: Context) -> None:
        left.append(context.deadline - system_clock() / 1000)
        while True:
            await context.progress(0)

    async with workshop.working(sleep, task_timeout_seconds=300):
        task = await workshop.outcome("sleep")

    assert (task.status, task.error) == (TaskStatus.FAILED, "timed out after 0.2 s")
    assert 0 < left[0] < 0.21
    assert '"outcome":"timed_out"' in workshop.column(task.id, "history")


async def test_the_timeout_of_a_task_goes_before_its_actions(workshop: Workshop) -> None:
    """Whoever posts it knows best."""

    @action("sleep", timeout=300, max_attempts=1)
    async def sleep(_: dict[str, Any], context: Context) -> None:
        while True:
            await context.progress(0)

    payload = await workshop.record("sleep")
    change(workshop.database, "UPDATE tasks SET timeout = 100, due_at = 1")
    async with workshop.working(sleep):
        task = await workshop.finished(payload.id)

    assert (task.status, task.error) == (TaskStatus.FAILED, "timed out after 0.1 s")


@pytest.mark.parametrize(("of_task", "expected"), [(None, 3), (2, 2)], ids=["action", "task"])
async def test_the_attempts_of_an_action_go_before_the_setting(
    workshop: Workshop, of_task: int | None, expected: int
) -> None:
    """And those of the task before both."""

    @action("fail", max_attempts=3)
    async def fail(_: dict[str, Any]) -> None:
        raise ValueError

    payload = await workshop.record("fail")
    change(workshop.database, "UPDATE tasks SET max_attempts = ?, due_at = 1", of_task)
    async with workshop.working(fail, max_attempts=1):
        task = await workshop.finished(payload.id)

    assert (task.status, task.attempts) == (TaskStatus.FAILED, expected)


async def test_an_action_may_have_a_backoff_of_its_own(workshop: Workshop) -> None:
    """The shipped one would begin with a second; this begins with a thousand."""

    @action("fail", backoff=Backoff(first=1000, ceiling=1000, jitter=0))
    async def fail(_: dict[str, Any]) -> None:
        raise ValueError

    async with workshop.working(fail):
        task_id = await workshop.submit("fail")
        await eventually(lambda: workshop.column(task_id, "error"), what="the failure")

    assert 990_000 < workshop.column(task_id, "due_at") - system_clock() <= 1_000_000


async def test_a_handler_can_fail_for_good(workshop: Workshop) -> None:
    """Its sentence is the error, and there is no other attempt."""

    @action("fail")
    def fail(_: dict[str, Any]) -> None:
        raise Fail("there is no such account")

    async with workshop.working(fail):
        task = await workshop.outcome("fail")

    assert (task.status, task.attempts, task.error) == (TaskStatus.FAILED, 1, "there is no such account")


@pytest.mark.parametrize(
    "wish",
    [
        lambda: RetryAfter(1000, "busy"),
        lambda: RetryAfter.at(datetime.now(UTC) + timedelta(seconds=1000), "busy"),
    ],
    ids=["in so many seconds", "at an instant"],
)
async def test_a_handler_can_ask_for_another_attempt_at_a_time(workshop: Workshop, wish: Any) -> None:
    """Whatever the backoff says; its sentence is the error meanwhile."""

    @action("ask")
    async def ask(_: dict[str, Any]) -> None:
        raise wish()

    async with workshop.working(ask):
        task_id = await workshop.submit("ask")
        await eventually(lambda: workshop.column(task_id, "error"), what="the wish")

    assert workshop.column(task_id, "status") == "pending"
    assert workshop.column(task_id, "error") == "busy"
    assert 990_000 < workshop.column(task_id, "due_at") - system_clock() <= 1_000_000


async def test_attempts_that_were_asked_for_count(workshop: Workshop) -> None:
    """A handler cannot go on for ever."""

    @action("ask")
    async def ask(_: dict[str, Any]) -> None:
        raise RetryAfter(0)

    async with workshop.working(ask, max_attempts=3):
        task = await workshop.outcome("ask")

    assert (task.status, task.attempts) == (TaskStatus.FAILED, 3)


async def test_an_action_that_nobody_has_fails_if_that_is_set(workshop: Workshop) -> None:
    """At once, and by its name; the actions that there are work as ever."""
    async with workshop.working(unknown_action="fail"):
        unknown = await workshop.outcome("resize")
        known = await workshop.outcome("sum")

    assert (unknown.status, unknown.attempts, unknown.error) == (TaskStatus.FAILED, 1, "no action named resize")
    assert known.status == TaskStatus.COMPLETED


async def test_an_action_that_nobody_has_is_processed_otherwise(workshop: Workshop) -> None:
    """The shipped setting."""
    async with workshop.working():
        task = await workshop.outcome("resize")

    assert task.result == {"output": "processed"}
