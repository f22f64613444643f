"""Running a blocking handler without blocking the event loop."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any


async def run_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `function`, which runs in a thread of its own.

    A pool's threads would be waited for at exit, and one that hangs would take a place for ever; a daemon thread that
    is given up on costs its memory and nothing else.
    """
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

    threading.Thread(target=work, name="blocking handler", daemon=True).start()
    return await outcome


def _report(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if outcome.done() else tell())


def _storable(error: BaseException) -> BaseException:
    # A future refuses StopIteration, which would end the coroutine that awaits it.
    return RuntimeError(f"the handler raised {error!r}") if isinstance(error, StopIteration) else error
