"""Performing a claimed task: the handler of its action is called, timed, and listened to."""

import asyncio
from asyncio import FIRST_COMPLETED
from typing import Any, Final

from taskqueue import jsontext
from taskqueue.actions import Action, Context, InvalidData
from taskqueue.actions.registry import Registry
from taskqueue.clock import Clock
from taskqueue.store.writes import Claimed
from taskqueue_worker.outcomes import Completed, Failed, Outcome
from taskqueue_worker.running import Running, RunningAttempts
from taskqueue_worker.threads import run_in_thread

MAX_RESULT_BYTES: Final = 1024 * 1024
CANCEL_SECONDS: Final = 2.0
"""How long a handler that was cancelled has to end; after that it is left to itself, and fenced."""


class Handling:
    """Calls handlers, each under the timeout (s), and turns whatever comes of it into an outcome."""

    def __init__(self, registry: Registry, running: RunningAttempts, clock: Clock, timeout: float) -> None:
        self._registry = registry
        self._running = running
        self._clock = clock
        self._timeout = timeout

    async def perform(self, claimed: Claimed) -> Outcome:
        """What came of the attempt."""
        action = self._registry.find(claimed.payload.action)
        context = Context(claimed.payload.id, claimed.attempt, self._clock() / 1000 + self._timeout)
        handler = asyncio.create_task(_call(action, claimed.payload.data, context), name=f"handler of {action.name}")
        running = Running(claimed, handler, asyncio.get_running_loop().create_future())
        with self._running.including(running):
            in_time = await self._wait_for(running)
        if running.interruption.done() and not _succeeded(handler):
            return running.interruption.result()
        if not in_time and not _succeeded(handler):
            return Failed(f"timed out after {self._timeout:g} s")
        return _outcome(handler)

    async def _wait_for(self, running: Running) -> bool:
        """Whether the handler ended within the timeout, and uninterrupted; one that did not is cancelled."""
        handler = running.handler
        try:
            await asyncio.wait({handler, running.interruption}, timeout=self._timeout, return_when=FIRST_COMPLETED)
            return handler.done()
        finally:
            if not handler.done():
                handler.cancel()
                await asyncio.wait({handler}, timeout=CANCEL_SECONDS)


async def _call(action: Action, data: dict[str, Any], context: Context) -> Any:
    arguments = action.arguments(data, context)
    try:
        return await (run_in_thread(action.handler, *arguments) if action.blocking else action(*arguments))
    except (SystemExit, KeyboardInterrupt) as error:
        # The event loop would take it for its own end.
        raise RuntimeError(f"the handler raised {error!r}") from error


def _succeeded(handler: asyncio.Task[Any]) -> bool:
    return handler.done() and not handler.cancelled() and handler.exception() is None


def _outcome(handler: asyncio.Task[Any]) -> Completed | Failed:
    if handler.cancelled():
        return Failed("the handler cancelled itself")
    error = handler.exception()
    if isinstance(error, InvalidData):
        return Failed(str(error), final=True)
    return _completed(handler.result()) if error is None else Failed(_told(error))


def _told(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way, even at telling what it is
        return f"{name}, which cannot be told as text"


def _completed(result: Any) -> Completed | Failed:
    try:
        text = jsontext.encode(result)
    except (jsontext.InvalidJSON, jsontext.NestedTooDeep) as error:
        return Failed(f"the handler's result is not JSON: {error}", final=True)
    if len(text) > MAX_RESULT_BYTES:
        return Failed(f"the handler's result is larger than {MAX_RESULT_BYTES} bytes", final=True)
    return Completed(text.decode())
