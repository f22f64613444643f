"""A task that failed is tried again, later and later, and not for ever."""

from collections.abc import Callable
from typing import Any

import pytest

from taskqueue import events
from taskqueue.actions import Action, Context, RetryAfter, action
from taskqueue.clock import system_clock
from taskqueue.retry import Backoff
from taskqueue.schema import Task, TaskStatus
from taskqueue_worker import outcomes
from taskqueue_worker.settings import WorkSettings
from tests.support.database import change
from tests.support.eventually import eventually
from tests.worker.conftest import Workshop


def failing(times: int) -> Action:
    """An action whose first attempts fail."""

    @action("try")
    async def attempt(_: dict[str, Any], context: Context) -> str:
        if context.attempt <= times:
            raise ValueError(f"attempt {context.attempt}")
        return "at last"

    return attempt


async def test_a_task_that_fails_is_tried_again_until_it_succeeds(workshop: Workshop) -> None:
    """The result is that of the attempt that succeeded; the errors before it are forgotten."""
    async with workshop.working(failing(2)):
        task = await workshop.outcome("try")

    assert (task.status, task.result, task.attempts, task.error) == (TaskStatus.COMPLETED, "at last", 3, None)


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_task_that_always_fails_is_failed_after_the_last_attempt(workshop: Workshop, max_attempts: int) -> None:
    """Exactly so many attempts, and the error of the last one is recorded."""
    async with workshop.working(failing(100), max_attempts=max_attempts):
        task = await workshop.outcome("try")

    assert (task.status, task.result, task.attempts) == (TaskStatus.FAILED, None, max_attempts)
    assert task.error == f"ValueError: attempt {max_attempts}"
    assert task.processed_at is not None
    assert len(workshop.reports(events.TASK_RETRIED)) == max_attempts - 1


async def test_five_attempts_are_made_unless_it_is_set_otherwise(workshop: Workshop) -> None:
    """The shipped setting."""
    assert WorkSettings().max_attempts == 5

    async with workshop.working(failing(100)):
        assert (await workshop.outcome("try")).attempts == 5


async def test_between_attempts_a_task_waits_on_disk(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pending`, with its error and the time at which it is due; it is tried again when that time has come."""
    monkeypatch.setattr(outcomes, "BACKOFF", Backoff(first=3600, ceiling=3600))
    before = system_clock()
    async with workshop.working(failing(1)):
        task_id = await workshop.submit("try")
        waiting = await _once(workshop, task_id, lambda task: task.error)

        assert (waiting.status, waiting.attempts, waiting.error) == (TaskStatus.PENDING, 1, "ValueError: attempt 1")
        assert workshop.column(task_id, "due_at") >= before + 1_800_000
        assert await workshop.broker.ready_count() == 0
        change(workshop.database, "UPDATE tasks SET due_at = ? WHERE id = ?", system_clock(), task_id)

        assert (await workshop.finished(task_id)).attempts == 2


async def test_each_wait_is_longer_than_the_last(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exponential backoff: the shortest wait after an attempt is the longest after the one before."""
    monkeypatch.setattr(outcomes, "BACKOFF", Backoff(first=1000, ceiling=1_000_000))
    waits = []
    async with workshop.working(failing(4)):
        task_id = await workshop.submit("try")
        for attempt in range(1, 5):
            await _once(workshop, task_id, lambda task: task.error == f"ValueError: attempt {attempt}")  # noqa: B023
            waits.append((workshop.column(task_id, "due_at") - system_clock()) / 1000)
            change(workshop.database, "UPDATE tasks SET due_at = ? WHERE id = ?", system_clock(), task_id)
        await workshop.finished(task_id)

    for attempt, wait in enumerate(waits):
        assert 500 * 2**attempt - 60 < wait <= 1000 * 2**attempt


async def test_a_waiting_task_does_not_hold_up_the_others(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry takes no place in the worker while it waits."""
    monkeypatch.setattr(outcomes, "BACKOFF", Backoff(first=3600, ceiling=3600))
    async with workshop.working(failing(1), channels=1, prefetch_count=1):
        waiting = await workshop.submit("try")
        await workshop.reported(events.TASK_RETRIED)

        assert (await workshop.outcome("sum")).status == TaskStatus.COMPLETED
        assert (await workshop.task(waiting)).status == TaskStatus.PENDING


async def _once(workshop: Workshop, task_id: str, condition: Callable[[Task], object]) -> Task:
    async def fits() -> Task | None:
        task = await workshop.task(task_id)
        return task if condition(task) else None

    task: Task = await eventually(fits, what=f"the condition of {task_id}")
    return task


class _Forgetful(RetryAfter):
    """Has left out what its parent does."""

    def __init__(self) -> None:  # a mistake that users make
        Exception.__init__(self, "later")


async def test_a_wish_that_does_not_say_when_is_a_failure_like_any_other(workshop: Workshop) -> None:
    """It is recorded and tried again, and is no fault of the worker's own."""

    @action("forget", max_attempts=2)
    async def forget(_: dict[str, Any]) -> None:
        raise _Forgetful

    async with workshop.working(forget):
        task = await workshop.outcome("forget")

    assert (task.status, task.attempts, task.error) == (TaskStatus.FAILED, 2, "_Forgetful: later")
    assert workshop.reports(events.EXECUTION_BROKE) == []
