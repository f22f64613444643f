"""Handlers that compute get a process of their own, which is ended with their attempt if it must be."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskqueue.actions import Action, action
from taskqueue.errors import InvalidSettings
from taskqueue.schema import TaskStatus
from taskqueue_worker import worker
from tests.support.eventually import eventually
from tests.worker.conftest import Workshop

PROCESSES = {"actions": "tests.support.process_actions"}


async def test_a_handler_runs_in_another_process(workshop: Workshop) -> None:
    """It gets its data as the model, and a context with the task, the attempt and the deadline."""
    async with workshop.working(**PROCESSES, task_timeout_seconds=100):
        task = await workshop.outcome("square", {"n": 7})

    assert task.status == TaskStatus.COMPLETED
    result = task.result or {}
    assert (result["square"], result["context"]) == (49, [task.id, 1, False])
    assert 0 < result["time left"] <= 100
    assert result["process"] != os.getpid()


async def test_data_that_does_not_fit_fails_at_once(workshop: Workshop) -> None:
    """As for every other handler, with the place and the fault."""
    async with workshop.working(**PROCESSES):
        task = await workshop.outcome("square", {"n": "seven"})

    assert (task.status, task.attempts) == (TaskStatus.FAILED, 1)
    assert (task.error or "").startswith("data.n: ")


async def test_what_a_handler_prints_does_not_break_its_answer(workshop: Workshop) -> None:
    """Nor does what the programs print that it starts; and there is nothing that they could read."""
    async with workshop.working(**PROCESSES, task_timeout_seconds=30, max_attempts=1):
        first = await workshop.outcome("print")
        second = await workshop.outcome("square", {"n": 2})

    assert (first.status, first.result) == (TaskStatus.COMPLETED, "printed")
    assert second.status == TaskStatus.COMPLETED


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raise", "ValueError: no"),
        ("unpicklable", "_Unpicklable: gone"),
        ("for good", "never"),
        ("exit", "RuntimeError: the handler raised SystemExit(3)"),
        ("die", "the process of the handler ended before the handler did"),
        ("report", "NotInAProcess: "),
        ("log", "NotInAProcess: "),
    ],
)
async def test_whatever_a_handler_does_is_its_own_failure(workshop: Workshop, how: str, error: str) -> None:
    """The attempt has failed with a sentence, and the next one gets a process that works."""
    async with workshop.working(**PROCESSES, max_attempts=1):
        failed = await workshop.outcome("fail in a process", {"how": how})
        others = await workshop.outcome("square", {"n": 2})

    assert failed.status == TaskStatus.FAILED
    assert (failed.error or "").startswith(error)
    assert others.status == TaskStatus.COMPLETED


async def test_a_result_that_is_no_json_fails_at_once(workshop: Workshop) -> None:
    """It need not be able to travel between processes either."""
    async with workshop.working(**PROCESSES):
        task = await workshop.outcome("object")

    assert (task.status, task.attempts) == (TaskStatus.FAILED, 1)
    assert (task.error or "").startswith("the handler's result is not JSON")


async def test_a_retry_at_a_stated_time_works_from_a_process(workshop: Workshop) -> None:
    """The task waits for it."""
    async with workshop.working(**PROCESSES):
        task_id = await workshop.submit("fail in a process", {"how": "later"})
        await eventually(lambda: workshop.column(task_id, "error"), what="the error")

    assert workshop.column(task_id, "error") == "not now"
    assert workshop.column(task_id, "status") == "pending"


async def test_a_process_is_ended_at_its_timeout(workshop: Workshop, tmp_path: Path) -> None:
    """It cannot hinder that, and nothing of it is left."""
    file = tmp_path / "process"
    async with workshop.working(**PROCESSES, task_timeout_seconds=3, max_attempts=1):
        task = await workshop.outcome("busy", {"file": str(file)})
        await eventually(_ended(file), what="the end of the process")

    assert (task.status, task.error) == (TaskStatus.FAILED, "timed out after 3 s")


async def test_a_process_is_ended_when_its_task_is_called_off(workshop: Workshop, tmp_path: Path) -> None:
    """Within a second, and the task is `cancelled`."""
    file = tmp_path / "process"
    async with workshop.working(**PROCESSES):
        task_id = await workshop.submit("busy", {"file": str(file)})
        await eventually(lambda: file.exists() and file.read_text(), what="the handler")
        workshop.call_off(task_id)
        task = await workshop.finished(task_id, within=1)
        await eventually(_ended(file), what="the end of the process")

    assert task.status == TaskStatus.CANCELLED


async def test_a_process_is_ended_when_its_worker_stops(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the task is handed back."""
    monkeypatch.setattr(worker, "HAND_BACK_SHARE", 0.97)
    file = tmp_path / "process"
    async with workshop.working(**PROCESSES, shutdown_grace_seconds=10) as working:
        task_id = await workshop.submit("busy", {"file": str(file)})
        await eventually(lambda: file.exists() and file.read_text(), what="the handler")
        workshop.broker.connected = False
        await working.stop()
        await eventually(_ended(file), what="the end of the process")

    assert (await workshop.task(task_id)).status == TaskStatus.PENDING
    assert workshop.column(task_id, "forgiven") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_all_processes_does_not_end_a_handler(
    workshop: Workshop, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C reaches the whole group: the worker drains, and decides."""
    file, until = tmp_path / "process", tmp_path / "until"
    async with workshop.working(**PROCESSES, max_attempts=1):
        task_id = await workshop.submit("busy", {"file": str(file), "until": str(until)})
        await eventually(lambda: file.exists() and file.read_text(), what="the handler")
        os.kill(int(file.read_text()), number)
        until.touch()
        task = await workshop.finished(task_id)

    assert (task.status, task.result) == (TaskStatus.COMPLETED, "done")


async def test_a_process_that_has_not_begun_is_ended_too(workshop: Workshop) -> None:
    """None is left over, and the next handler gets one that works."""
    async with workshop.working(**PROCESSES):
        before = _children()
        task = await workshop.outcome("hasty")
        await eventually(lambda: _children() <= before, what="the end of the process")
        others = await workshop.outcome("square", {"n": 2})

    assert (task.status, task.error) == (TaskStatus.FAILED, "timed out after 0.02 s")
    assert others.status == TaskStatus.COMPLETED


async def test_processes_work_side_by_side(workshop: Workshop) -> None:
    """And the event loop works on meanwhile."""
    async with workshop.working(**PROCESSES):
        tasks = await asyncio.gather(*(workshop.outcome("square", {"n": n}) for n in range(4)))

    assert [(task.result or {})["square"] for task in tasks] == [0, 1, 4, 9]


def _local() -> Callable[[dict[str, Any]], None]:
    def handler(data: dict[str, Any]) -> None:
        """Nobody can import it."""

    return handler


async def _async(data: dict[str, Any]) -> None:
    """It belongs on the event loop."""


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (_local(), "must be a function of a module"),
        (lambda data: data, "must be a function"),
        (_async, "must be a plain"),
    ],
)
def test_a_function_that_no_process_could_find_is_refused(handler: Callable[..., Any], fault: str) -> None:
    """When it is decorated."""
    with pytest.raises(TypeError, match=fault):
        action("odd", process=True)(handler)


def _elsewhere(data: dict[str, Any]) -> None:
    """The action that it becomes is not in its module."""


async def test_an_action_that_is_not_in_its_handlers_module_is_refused(workshop: Workshop) -> None:
    """Before the worker starts."""
    stray: Action = action("stray", process=True)(_elsewhere)

    with pytest.raises(InvalidSettings, match="holds no action 'stray'"):
        async with workshop.working(stray):
            """It does not come to this."""


def _children() -> set[str]:
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


def _ended(file: Path) -> Callable[[], bool]:
    def ended() -> bool:
        try:
            os.kill(int(file.read_text()), 0)
        except ProcessLookupError:
            return True
        return False

    return ended
