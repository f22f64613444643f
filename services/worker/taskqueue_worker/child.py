"""What runs in the process of a handler: everything comes in by name or as plain data, and goes out as an outcome."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO, Final

from taskqueue.actions import Action, Context
from taskqueue.actions.registry import actions_in
from taskqueue.clock import system_clock
from taskqueue_worker.outcomes import Returned, raised, returned

SIZE_BYTES: Final = 8
WORKER_SECONDS: Final = 0.5
"""How often the process asks whether its worker is still there."""


def framed(value: Any) -> bytes:
    """A message between worker and process: its size, and itself."""
    body = pickle.dumps(value)
    return len(body).to_bytes(SIZE_BYTES) + body


def find(module: str, name: str) -> Action:
    """The action of this name that a module holds: its function cannot be sent, since the action took its name.

    Raises LookupError where there is none.
    """
    for action in actions_in(import_module(module)):
        if action.name == name:
            return action
    raise LookupError(f"the module {module!r} holds no action {name!r}")


def main() -> None:
    """Performs one handler after the other, until the worker closes the pipe or ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides when this process ends, also where all got a signal
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    requests, answers = _pipes()
    for path, *request in _requests(requests):
        sys.path[:] = path
        answers.write(framed(perform(*request)))
        answers.flush()


def perform(module: str, name: str, data: dict[str, Any], attempt: tuple[str, int, float]) -> Returned:
    """What came of the action's handler."""
    try:
        action = find(module, name)
        return returned(action(*action.arguments(data, Context(*attempt, name, link=None))))
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its own failure
        return raised(error, system_clock())


def _end_with(worker: int) -> None:
    """A worker that was killed could not end this process, whose handler may compute for hours for nobody.

    Not by the end of the pipe: a reader that another thread holds would hang a handler that forks.
    """
    while os.getppid() == worker:
        time.sleep(WORKER_SECONDS)
    os._exit(1)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the worker, moved out of the reach of handlers and of programs that they start.

    What those print goes to the worker's standard error; there is nothing for them to read.
    """
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    return pipes


def _requests(pipe: BinaryIO) -> Iterator[Any]:
    while size := pipe.read(SIZE_BYTES):
        yield pickle.loads(pipe.read(int.from_bytes(size)))  # noqa: S301 - the worker wrote it


if __name__ == "__main__":
    main()
