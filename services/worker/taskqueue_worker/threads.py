"""Running blocking handlers without blocking the event loop."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

ABANDONED_LIMIT: Final = 100
"""Threads left to themselves that a worker bears with: the compose file allows 256 processes and threads."""


class Threads:
    """Runs each blocking handler in a thread of its own.

    A pool's threads would be waited for at exit, and one that hangs would take a place for ever; a daemon thread that
    is given up on costs its memory and nothing else. `exhausted` is set when there are too many of them: nothing but
    a new process gets rid of them.
    """

    def __init__(self) -> None:
        self.exhausted = asyncio.Event()
        self._abandoned: set[threading.Thread] = set()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `function`. Cancelled, it gives the thread up."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                result = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - the exception belongs to whoever waits for the result
                _report(loop, outcome, partial(outcome.set_exception, _storable(error)))
            else:
                _report(loop, outcome, partial(outcome.set_result, result))

        thread = threading.Thread(target=work, name="blocking handler", daemon=True)
        thread.start()
        try:
            return await outcome
        except asyncio.CancelledError:
            self._give_up(thread)
            raise

    def _give_up(self, thread: threading.Thread) -> None:
        self._abandoned = {each for each in (*self._abandoned, thread) if each.is_alive()}
        if len(self._abandoned) >= ABANDONED_LIMIT:
            self.exhausted.set()


def _report(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if outcome.done() else tell())


def _storable(error: BaseException) -> BaseException:
    # A future refuses StopIteration, which would end the coroutine that awaits it.
    return RuntimeError(f"the handler raised {error!r}") if isinstance(error, StopIteration) else error
