"""What runs in the process of a handler: everything comes in by name or as plain data, and goes out as an outcome."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from taskqueue.actions import Action, Context
from taskqueue.actions.registry import actions_in
from taskqueue.clock import system_clock
from taskqueue_worker.outcomes import Returned, raised, returned

_STANDARD_STREAMS: Final = (0, 1, 2)


def find(module: str, name: str) -> Action:
    """The action of this name that a module holds: its function cannot be sent, since the action took its name.

    Raises LookupError where there is none.
    """
    for action in actions_in(import_module(module)):
        if action.name == name:
            return action
    raise LookupError(f"the module {module!r} holds no action {name!r}")


def perform(module: str, name: str, data: dict[str, Any], attempt: tuple[str, int, float]) -> Returned:
    """What came of the action's handler."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides when this process ends, also where all got a signal
    with _streams_apart():
        try:
            action = find(module, name)
            return returned(action(*action.arguments(data, Context(*attempt, name, link=None))))
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its own failure
            return raised(error, system_clock())


@contextmanager
def _streams_apart() -> Iterator[None]:
    """Leaves the pipes to the worker out of the handler's reach, and of that of programs that it starts.

    They carry the answer; a byte printed between would break it, and errors are read by nobody until the pipe is full.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    kept = [os.dup(stream) for stream in _STANDARD_STREAMS]
    for stream in _STANDARD_STREAMS:
        os.dup2(nowhere, stream)
    try:
        yield
    finally:
        for stream, original in zip(_STANDARD_STREAMS, kept, strict=True):
            os.dup2(original, stream)
            os.close(original)
        os.close(nowhere)
