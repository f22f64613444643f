"""A process from start to stop: exit codes, and what signals do."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from taskqueue import errors
from taskqueue.errors import InvalidSettings, SQLiteTooOld, StartRefused
from taskqueue.lifecycle import refuse, run

SECONDS_TO_END = 30
SCRIPT = """
import asyncio, os, signal, sys
from taskqueue.events import configure_logging
from taskqueue.lifecycle import SAME_SIGNAL_SECONDS, run

async def main(stop):
    print("running", flush=True)
    {before}
    await stop.wait()
    print("stopping", flush=True)
    {after}
    print("stopped", flush=True)

configure_logging("INFO", "json")
sys.exit(run(main))
"""


FROZEN = """
import asyncio, gc, sys
from taskqueue import lifecycle

lifecycle.LOADED_AFTER_SECONDS = 0.05
watched = [len(gc.get_objects())]

async def main(stop):
    await asyncio.sleep(0.2)
    watched.append(len(gc.get_objects()))

sys.exit(lifecycle.run(main) or print(*watched, file=sys.stderr))
"""


def test_the_garbage_collector_does_not_look_at_what_is_loaded() -> None:
    """A look through everything, again and again, would stop the whole process for tens of milliseconds."""
    ended = subprocess.run(
        [sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=SECONDS_TO_END, check=True
    )
    before, later = map(int, ended.stderr.split())
    assert before > 10_000
    assert later < before / 10


def test_a_main_that_returns_ends_well() -> None:
    """The exit code is 0."""

    async def main(stop: asyncio.Event) -> None:
        assert not stop.is_set()

    assert run(main) == 0


@pytest.mark.parametrize("refusal", [InvalidSettings, SQLiteTooOld, StartRefused])
def test_a_refusal_ends_with_its_own_code(refusal: type[StartRefused]) -> None:
    """However deep in task groups it was raised."""

    async def straight(_: asyncio.Event) -> None:
        raise refusal

    async def in_groups(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(asyncio.sleep(60))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(straight(stop))

    assert [run(straight), run(in_groups)] == [refusal.exit_code, refusal.exit_code]


def test_a_refusal_counts_before_what_failed_beside_it() -> None:
    """The supervisor learns why a start is vain."""

    async def main(_: asyncio.Event) -> None:
        raise ExceptionGroup("both", [ValueError("noise"), ExceptionGroup("inner", [InvalidSettings()])])

    assert run(main) == InvalidSettings.exit_code


def test_any_other_failure_ends_with_1() -> None:
    """A supervisor starts the process again."""

    async def straight(_: asyncio.Event) -> None:
        raise ValueError("broken")

    async def in_a_group(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(straight(stop))

    assert [run(straight), run(in_a_group)] == [1, 1]


def test_each_refusal_has_an_exit_code_of_its_own() -> None:
    """An operator tells the kinds apart by the number; none is 0, and none is a shell's own."""
    codes = [error.exit_code for error in _refusals() if StartRefused in error.__bases__]

    assert len(set(codes)) == len(codes)
    assert all(0 < error.exit_code < 126 for error in _refusals())


def test_every_error_has_a_sentence() -> None:
    """A class's docstring is its default message, on one line."""
    for error in _errors(errors.TaskQueueError):
        sentence = str(error())
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert str(error("another")) == "another"


def test_refuse_answers_the_exit_code() -> None:
    """What is refused before there is an event loop ends the same way."""
    assert refuse(SQLiteTooOld("too old")) == 78


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(number: signal.Signals) -> None:
    """What was begun is finished, and the exit code is 0."""
    with _process(after="await asyncio.sleep(0.05)") as process:
        _await_line(process, "running")
        process.send_signal(number)
        output, log = process.communicate(timeout=SECONDS_TO_END)

    assert process.returncode == 0
    assert output.split() == ["stopping", "stopped"]
    assert [json.loads(line)["name"] for line in log.splitlines()] == ["stopping", "stopped"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(second: signal.Signals) -> None:
    """Whatever it still does, and with an exit code that tells so."""
    after = "await asyncio.sleep(SAME_SIGNAL_SECONDS + 0.01); print('still here', flush=True); await asyncio.sleep(600)"
    with _process(after=after) as process:
        _await_line(process, "running")
        process.send_signal(signal.SIGTERM)
        _await_line(process, "stopping")
        _await_line(process, "still here")
        process.send_signal(second)
        output, _ = process.communicate(timeout=SECONDS_TO_END)

    assert process.returncode == 130
    assert output == ""


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """A shell and make both pass on one Ctrl-C, which asks for an orderly end all the same."""
    twice = "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)"
    with _process(before=twice, after="await asyncio.sleep(0.05)") as process:
        output, _ = process.communicate(timeout=SECONDS_TO_END)

    assert process.returncode == 0
    assert output.split() == ["running", "stopping", "stopped"]


def test_a_failure_during_the_stop_is_told() -> None:
    """An orderly stop that fails is no orderly stop."""
    with _process(after="raise OSError('disk gone')") as process:
        _await_line(process, "running")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS_TO_END)

    assert process.returncode == 1
    assert [json.loads(line)["name"] for line in log.splitlines()] == ["stopping", "crashed"]


@contextmanager
def _process(after: str, before: str = "pass") -> Iterator["subprocess.Popen[str]"]:
    script = SCRIPT.format(before=before, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _await_line(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def _errors(base: type[errors.TaskQueueError]) -> Iterator[type[errors.TaskQueueError]]:
    yield base
    for error in base.__subclasses__():
        yield from _errors(error)


def _refusals() -> list[type[StartRefused]]:
    return [error for error in _errors(StartRefused) if issubclass(error, StartRefused) and error is not StartRefused]
