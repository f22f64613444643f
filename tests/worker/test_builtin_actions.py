"""The actions that every worker has: exact results, and what their data may be."""

import time
from typing import Any

import pytest

from taskqueue.schema import TaskStatus
from taskqueue_worker.settings import WorkSettings
from tests.support.database import rows
from tests.worker.conftest import Workshop


@pytest.mark.parametrize(
    ("action", "data", "result"),
    [
        ("uppercase", {"text": "hello, wörld"}, '{"output":"HELLO, WÖRLD"}'),
        ("uppercase", {"text": "straße"}, '{"output":"STRASSE"}'),
        ("uppercase", {"text": ""}, '{"output":""}'),
        ("uppercase", {}, '{"output":""}'),
        ("uppercase", {"text": "a", "unknown": 1}, '{"output":"A"}'),
        ("sum", {"numbers": [1, 2, 3]}, '{"output":6}'),
        ("sum", {"numbers": [1, 2.5, -3]}, '{"output":0.5}'),
        ("sum", {"numbers": [2**70, 1]}, '{"output":1180591620717411303425}'),
        ("sum", {"numbers": []}, '{"output":0}'),
        ("sum", {}, '{"output":0}'),
        ("anything", {}, '{"output":"processed"}'),
        ("any other", {"whatever": [None]}, '{"output":"processed"}'),
        ("Uppercase", {"text": "a"}, '{"output":"processed"}'),
        ("\x00 \U0001f600", {}, '{"output":"processed"}'),
    ],
)
async def test_an_action_has_its_exact_result(
    workshop: Workshop, action: str, data: dict[str, Any], result: str
) -> None:
    """What is recorded is this text and no other; a name that nobody has is processed."""
    async with workshop.working():
        task = await workshop.outcome(action, data)

    assert (task.status, task.attempts, task.error) == (TaskStatus.COMPLETED, 1, None)
    assert rows(workshop.database, "SELECT result FROM tasks") == [(result,)]


@pytest.mark.parametrize(
    ("action", "data", "error"),
    [
        ("uppercase", {"text": 1}, "data.text: "),
        ("uppercase", {"text": None}, "data.text: "),
        ("sum", {"numbers": "12"}, "data.numbers: "),
        ("sum", {"numbers": [1, "one"]}, "data.numbers.1"),
        ("sum", {"numbers": {"0": 1}}, "data.numbers: "),
        ("sum", {"numbers": [1e308, 1e308]}, "the handler's result is not JSON"),
    ],
)
async def test_data_that_an_action_cannot_take_fails_it_at_once(
    workshop: Workshop, action: str, data: dict[str, Any], error: str
) -> None:
    """One attempt, and a sentence that names the place."""
    async with workshop.working():
        task = await workshop.outcome(action, data)

    assert (task.status, task.attempts, task.result) == (TaskStatus.FAILED, 1, None)
    assert task.error is not None
    assert task.error.startswith(error)


async def test_every_action_pretends_to_work_for_as_long_as_the_setting_says(workshop: Workshop) -> None:
    """A tenth of a second unless it is set otherwise; many work at once, so that ten do not take ten times as long."""
    assert WorkSettings().simulated_work_seconds == 0.1

    async with workshop.working(simulated_work_seconds=0.3):
        began = time.monotonic()
        for action in ("uppercase", "sum", "anything"):
            await workshop.outcome(action)
        assert time.monotonic() - began >= 3 * 0.3


async def test_ten_tasks_are_worked_on_at_once(workshop: Workshop) -> None:
    """Two channels of five: the shipped settings, and no more than they say."""
    async with workshop.working(simulated_work_seconds=3600, shutdown_grace_seconds=0.1):
        for _ in range(12):
            await workshop.submit("sum")

        await workshop.running_tasks(10)
        assert await workshop.broker.ready_count() == 2
