"""What a worker makes of a handler: called rightly, timed, and kept from disturbing others."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from taskqueue import events
from taskqueue.actions import Context, InvalidData, action
from taskqueue.schema import Task, TaskStatus
from taskqueue_worker import handling
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop

ONE_AT_A_TIME = {"channels": 1, "prefetch_count": 1}
MAX_RESULT_BYTES = 1024 * 1024


class Shape(BaseModel):
    """Data of a user's own action."""

    sides: int
    name: str = "shape"


class Barrier:
    """A place where a blocking handler waits for the test."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.open = threading.Event()

    def pass_through(self, _: dict[str, Any]) -> str:
        """Returns once the barrier is open."""
        self.thread = threading.current_thread()
        self.open.wait()
        return "passed"

    async def arrived(self) -> None:
        """Returns once a handler is here."""
        await eventually(lambda: self.thread, what="a thread at the barrier")


@pytest.fixture
def barrier() -> Iterator[Barrier]:
    """A closed barrier, which opens at the latest when the test ends."""
    barrier = Barrier()
    yield barrier
    barrier.open.set()


async def test_a_handler_gets_the_data_and_its_return_value_is_the_result(workshop: Workshop) -> None:
    """A dict goes in, JSON comes out."""

    @action("echo")
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return {"got": data}

    async with workshop.working(echo):
        task = await workshop.outcome("echo", {"a": [1, None, "ü"]})

    assert (task.status, task.result) == (TaskStatus.COMPLETED, {"got": {"a": [1, None, "ü"]}})


async def test_a_handler_may_take_and_return_models(workshop: Workshop) -> None:
    """Data is validated into the model that the handler asks for; a model it returns becomes JSON."""

    @action("double")
    async def double(data: Shape) -> Shape:
        return Shape(sides=2 * data.sides)

    async with workshop.working(double):
        done = await workshop.outcome("double", {"sides": 3})
        refused = await workshop.outcome("double", {"sides": "many"})

    assert done.result == {"sides": 6, "name": "shape"}
    assert (refused.status, refused.attempts) == (TaskStatus.FAILED, 1)
    assert (refused.error or "").startswith("data.sides: ")


async def test_a_handler_is_told_its_task_its_attempt_and_its_deadline(workshop: Workshop) -> None:
    """The context names the task, counts attempts from 1, and ends within the timeout from now."""
    seen: list[Context] = []

    @action("look")
    async def look(_: dict[str, Any], context: Context) -> None:
        seen.append(context)
        if context.attempt == 1:
            raise ValueError

    before = time.time()
    async with workshop.working(look, task_timeout_seconds=100):
        task = await workshop.outcome("look")

    assert [(context.task_id, context.attempt) for context in seen] == [(task.id, 1), (task.id, 2)]
    assert all(before + 99 < context.deadline <= time.time() + 100 for context in seen)


@pytest.mark.parametrize("result", [None, 0, False, "", [], "ü", 1.5, {"a": None}])
async def test_any_json_value_is_a_result(workshop: Workshop, result: object) -> None:
    """A handler that returns nothing has the result null, and is completed all the same."""

    @action("give")
    async def give(_: dict[str, Any]) -> object:
        return result

    async with workshop.working(give):
        task = await workshop.outcome("give")

    assert (task.status, task.result) == (TaskStatus.COMPLETED, result)
    assert task.processed_at is not None


async def test_a_blocking_handler_does_not_hold_up_the_loop(workshop: Workshop, barrier: Barrier) -> None:
    """A plain function runs in a thread: others are worked on meanwhile, and its result counts like any other."""
    async with workshop.working(action("block")(barrier.pass_through)):
        blocked = await workshop.submit("block")
        await barrier.arrived()

        others = await workshop.outcome("sum", {"numbers": [1]})
        barrier.open.set()

        assert (await workshop.finished(blocked)).result == "passed"
    assert others.status == TaskStatus.COMPLETED
    assert barrier.thread is not threading.main_thread()


async def test_as_many_blocking_handlers_run_at_once_as_there_are_places(workshop: Workshop) -> None:
    """No pool of threads is smaller than what the broker may hand out."""
    meeting = threading.Barrier(10, timeout=20)

    @action("meet")
    def meet(_: dict[str, Any]) -> str:
        meeting.wait()
        return "met"

    async with workshop.working(meet):
        ids = [await workshop.submit("meet") for _ in range(10)]

        assert {(await workshop.finished(task_id)).result for task_id in ids} == {"met"}


async def test_a_blocking_handler_that_hangs_gives_its_place_up(workshop: Workshop, barrier: Barrier) -> None:
    """Past its timeout it has failed, and the one place that there is goes to the next task."""
    async with workshop.working(
        action("hang")(barrier.pass_through), **ONE_AT_A_TIME, task_timeout_seconds=0.1, max_attempts=1
    ):
        hung = await workshop.outcome("hang")
        others = await workshop.outcome("sum")

    assert (hung.status, hung.error) == (TaskStatus.FAILED, "timed out after 0.1 s")
    assert others.status == TaskStatus.COMPLETED


async def test_an_async_handler_is_cancelled_at_its_timeout(workshop: Workshop) -> None:
    """It can clean up, and has failed."""
    cancelled = asyncio.Event()

    @action("sleep")
    async def sleep(_: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    async with workshop.working(sleep, task_timeout_seconds=0.1, max_attempts=1):
        task = await workshop.outcome("sleep")

    assert (task.status, task.error) == (TaskStatus.FAILED, "timed out after 0.1 s")
    assert cancelled.is_set()


async def test_a_handler_that_will_not_be_cancelled_gives_its_place_up(
    workshop: Workshop, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left to itself: what it returns in the end is recorded nowhere."""
    monkeypatch.setattr(handling, "CANCEL_SECONDS", 0.1)
    returned = asyncio.Event()

    @action("stay")
    async def stay(_: dict[str, Any]) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await gate.pass_through()
        returned.set()
        return "too late"

    async with workshop.working(stay, **ONE_AT_A_TIME, task_timeout_seconds=0.1, max_attempts=1):
        stayed = await workshop.outcome("stay")
        others = await workshop.outcome("sum")
        gate.open()
        await returned.wait()
        later = await workshop.task(stayed.id)

    assert (stayed.status, stayed.error) == (TaskStatus.FAILED, "timed out after 0.1 s")
    assert others.status == TaskStatus.COMPLETED
    assert later == stayed


async def test_a_handler_that_returns_while_it_is_cancelled_has_succeeded(workshop: Workshop) -> None:
    """Work that was done is not thrown away for being a moment late."""

    @action("hurry")
    async def hurry(_: dict[str, Any]) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "just in time"
        return "never"

    async with workshop.working(hurry, task_timeout_seconds=0.1, max_attempts=1):
        task = await workshop.outcome("hurry")

    assert (task.status, task.result) == (TaskStatus.COMPLETED, "just in time")


class Untellable(Exception):
    """An exception that fails to tell what it is."""

    def __str__(self) -> str:
        """Fails too."""
        raise RuntimeError("no words")


def _raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


FAILURES = {
    "an exception": (_raising(ValueError("no")), "ValueError: no"),
    "one without words": (_raising(KeyError()), "KeyError: "),
    "one of many lines": (_raising(ValueError("a\nb")), "ValueError: a\nb"),
    "one that no database can hold": (_raising(ValueError("caf\udce9")), "ValueError: caf?"),
    "one that is too long": (_raising(ValueError("x" * 10_000)), "ValueError: " + "x" * 1_988),
    "one that cannot be told": (_raising(Untellable()), "Untellable"),
    "the end of an iteration": (_raising(StopIteration("x")), "RuntimeError: "),
    "the end of the process": (_raising(SystemExit(3)), "RuntimeError: the handler raised SystemExit(3)"),
    "an interrupt": (_raising(KeyboardInterrupt()), "RuntimeError: the handler raised KeyboardInterrupt()"),
    "a cancellation of its own": (_raising(asyncio.CancelledError()), "the handler cancelled itself"),
    "a timeout of its own": (_raising(TimeoutError("its own")), "TimeoutError: its own"),
    "a group": (_raising(ExceptionGroup("two", [ValueError(), KeyError()])), "ExceptionGroup: two (2 sub-exceptions)"),
}


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
@pytest.mark.parametrize(("fail", "error"), FAILURES.values(), ids=FAILURES.keys())
async def test_whatever_a_handler_raises_is_its_own_failure(
    workshop: Workshop, fail: Callable[[], object], error: str, blocking: bool
) -> None:
    """The attempt has failed with what was raised, nothing else has, and the worker works on."""

    @action("fail")
    async def fail_async(_: dict[str, Any]) -> object:
        return fail()

    @action("fail")
    def fail_blocking(_: dict[str, Any]) -> object:
        return fail()

    async with workshop.working(fail_blocking if blocking else fail_async, **ONE_AT_A_TIME, max_attempts=1):
        failed = await workshop.outcome("fail")
        others = await workshop.outcome("sum")

    assert (failed.status, failed.result) == (TaskStatus.FAILED, None)
    assert (failed.error or "").startswith(error)
    assert others.status == TaskStatus.COMPLETED
    assert workshop.reports(events.EXECUTION_BROKE) == []


async def test_data_that_a_handler_calls_invalid_is_not_tried_again(workshop: Workshop) -> None:
    """InvalidData says that no attempt can do better: failed at once, with its sentence."""

    @action("refuse")
    async def refuse(_: dict[str, Any]) -> None:
        raise InvalidData("there is no such city")

    async with workshop.working(refuse):
        task = await workshop.outcome("refuse")

    assert (task.status, task.attempts, task.error) == (TaskStatus.FAILED, 1, "there is no such city")


def _endless() -> object:
    endless: list[object] = []
    endless.append(endless)
    return endless


def _deep(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def _breaking() -> Iterator[int]:
    yield 1
    raise KeyError("gone")


NO_RESULTS: dict[str, Callable[[], object]] = {
    "an object": object,
    "NaN": lambda: float("nan"),
    "infinity within": lambda: {"a": [float("inf")]},
    "bytes": lambda: b"\xff",
    "a lone surrogate": lambda: "\ud800",
    "something that holds itself": _endless,
    "65 levels within": lambda: _deep(66),
    "endless depth": lambda: _deep(100_000),
    "an iterator that breaks": _breaking,
    "a coroutine": lambda: lambda: None,
    "more than a mebibyte": lambda: "x" * (MAX_RESULT_BYTES - 1),
}


@pytest.mark.parametrize("result", NO_RESULTS.values(), ids=NO_RESULTS.keys())
async def test_what_is_no_json_is_no_result(workshop: Workshop, result: Callable[[], object]) -> None:
    """Failed at once, since another attempt would return the same; and the worker works on."""

    @action("give")
    async def give(_: dict[str, Any]) -> object:
        return result()

    async with workshop.working(give, **ONE_AT_A_TIME):
        task = await workshop.outcome("give")
        others = await workshop.outcome("sum")

    assert (task.status, task.attempts, task.result) == (TaskStatus.FAILED, 1, None)
    assert (task.error or "").startswith("the handler's result is ")
    assert others.status == TaskStatus.COMPLETED


async def test_a_result_of_exactly_one_mebibyte_is_taken(workshop: Workshop) -> None:
    """The limit itself is within the limit; it counts the bytes of the JSON text."""

    @action("give")
    async def give(_: dict[str, Any]) -> str:
        return "x" * (MAX_RESULT_BYTES - 2)

    async with workshop.working(give):
        task = await workshop.outcome("give")

    assert task.status == TaskStatus.COMPLETED
    assert len(workshop.column(task.id, "result")) == MAX_RESULT_BYTES


async def test_what_has_a_plain_form_in_json_is_a_result(workshop: Workshop) -> None:
    """Instants, tuples and models within lists need no conversion by the handler."""

    @action("give")
    async def give(_: dict[str, Any]) -> object:
        return {"at": datetime(2026, 1, 2, tzinfo=UTC), "pair": (1, 2), "shapes": [Shape(sides=3)]}

    async with workshop.working(give):
        task = await workshop.outcome("give")

    assert task.result == {"at": "2026-01-02T00:00:00Z", "pair": [1, 2], "shapes": [{"sides": 3, "name": "shape"}]}


async def test_tasks_do_not_see_one_another(workshop: Workshop) -> None:
    """A handler may change its data and its logging context; the next task finds nothing of that."""

    @action("leave traces")
    def leave_traces(data: dict[str, Any]) -> bool:
        dirty = "trace" in data
        data["trace"] = True
        return dirty

    async with workshop.working(leave_traces, **ONE_AT_A_TIME):
        tasks: list[Task] = [await workshop.outcome("leave traces") for _ in range(3)]

    assert [task.result for task in tasks] == [False, False, False]
    assert tasks[0].payload["data"] == {}


async def test_each_end_of_a_task_is_one_line_in_the_log(workshop: Workshop) -> None:
    """Which task, which action, which attempt; nothing of its data."""

    @action("fail")
    async def fail(_: dict[str, Any]) -> None:
        raise ValueError("no")

    async with workshop.working(fail, max_attempts=2):
        done = await workshop.outcome("sum", {"secret": "hunter2"})
        failed = await workshop.outcome("fail", {"secret": "hunter2"})

    [completed], [retried], [spent] = (
        workshop.reports(event) for event in (events.TASK_COMPLETED, events.TASK_RETRIED, events.TASK_FAILED)
    )
    assert (completed["task_id"], completed["action"], completed["attempt"]) == (done.id, "sum", 1)
    assert (retried["task_id"], retried["error"], retried["attempt"]) == (failed.id, "ValueError: no", 1)
    assert (spent["task_id"], spent["error"], spent["attempt"]) == (failed.id, "ValueError: no", 2)
    assert "hunter2" not in str(workshop.log)
