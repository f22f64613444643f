"""A process from start to stop: signals, exit codes, the event loop. For a `__main__` to call."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from taskqueue import events, failpoints
from taskqueue.errors import StartRefused
from taskqueue.events import configure_logging
from taskqueue.settings import LogSettings, load
from taskqueue.variables import warn_of_unknown

EXIT_CRASHED: Final = 1
EXIT_KILLED_BY_SECOND_SIGNAL: Final = 130
SAME_SIGNAL_SECONDS: Final = 0.5
"""A signal so soon after the first one is the first one: a shell and make both pass it on."""

LOADED_AFTER_SECONDS: Final = 2.0
"""So long after its beginning a process has loaded all that stays, and the garbage collector is spared it.

To look through all of it, more than once a second under load, stopped the process for 40 to 70 ms each time.
"""

LEFTOVER_SECONDS: Final = 3.0
"""How long what is left on the event loop has to end once `main` has returned."""

SettingsT = TypeVar("SettingsT", bound=LogSettings)
Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set, then finishes what it began and returns."""


def run_service(
    settings: type[SettingsT], main: Callable[[SettingsT, asyncio.Event], Coroutine[Any, Any, None]]
) -> int:
    """Reads the settings, sets up the log, and runs `main` with them: see `run`, and its exit codes."""
    configure_logging("INFO", settings.model_fields["log_format"].default)
    try:
        loaded = load(settings)
    except StartRefused as error:
        return refuse(error)
    configure_logging(loaded.log_level, loaded.log_format)
    warn_of_unknown(os.environ)
    arm_failpoints(loaded.failpoints)
    return run(lambda stop: main(loaded, stop))


def arm_failpoints(text: str) -> None:
    """Arms what the setting names, and says so: nobody should run so without knowing."""
    failpoints.arm(text)
    if text:
        events.emit(events.FAILPOINTS_ARMED, failpoints=text)


def run(main: Main) -> int:
    """Runs `main` until SIGTERM or SIGINT, and answers the process's exit code: 0 after an orderly stop.

    A second signal ends the process at once. StartRefused becomes its own exit code, any other failure 1, so that a
    supervisor starts the process again.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = _run_to_its_end(runner, main)
        # What is left on the loop is cancelled now, and waited for: a handler may refuse to end, this process may not.
        runner.get_loop().call_later(LEFTOVER_SECONDS, os._exit, code)
    return code


def _run_to_its_end(runner: asyncio.Runner, main: Main) -> int:
    try:
        runner.run(_until_signal(main))
    except StartRefused as error:
        return refuse(error)
    except BaseExceptionGroup as group:
        refusal = group.subgroup(StartRefused)
        if refusal is not None:
            return refuse(_first(refusal))
        events.emit(events.CRASHED, exc_info=group)
        return EXIT_CRASHED
    except Exception as error:  # noqa: BLE001 - the last resort: reported, and an exit code for the supervisor
        events.emit(events.CRASHED, exc_info=error)
        return EXIT_CRASHED
    return 0


def refuse(error: StartRefused) -> int:
    """Reports why a process does not start, and answers its exit code."""
    events.emit(events.START_REFUSED, reason=str(error))
    return error.exit_code


async def _until_signal(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_at = 0.0

    def on_signal() -> None:
        nonlocal first_at
        if not stop.is_set():
            first_at = loop.time()
            events.emit(events.STOPPING)
            stop.set()
        elif loop.time() - first_at > SAME_SIGNAL_SECONDS:
            os._exit(EXIT_KILLED_BY_SECOND_SIGNAL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.call_later(LOADED_AFTER_SECONDS, gc.freeze)
    await main(stop)
    events.emit(events.STOPPED)


def _first(group: BaseExceptionGroup[StartRefused]) -> StartRefused:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, StartRefused) else StartRefused(str(error))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
