"""Performing a claimed task: the handler of its action is called, timed, and listened to."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Sequence
from typing import Any, Final

from taskqueue.actions import Action, Context
from taskqueue.actions.registry import Registry
from taskqueue.clock import Clock
from taskqueue.store.claims import Claimed
from taskqueue_worker.calling import Calls
from taskqueue_worker.outcomes import Completed, Failed, Interruption, Outcome, Returned, TimedOut, raised
from taskqueue_worker.running import Running, RunningAttempts

CANCEL_SECONDS: Final = 2.0
"""How long a handler that was cancelled has to end; after that it is left to itself, and fenced."""

CALLED_OFF_SECONDS: Final = 0.5
"""The same where somebody cancelled the task, and is to see that within a second."""


class Handling:
    """Calls handlers, each under its timeout, and turns whatever comes of it into an outcome.

    `timeout` (s) is for tasks that have none, neither of their own nor of their action.
    """

    def __init__(
        self, registry: Registry, running: RunningAttempts, calls: Calls, clock: Clock, timeout: float
    ) -> None:
        self._registry = registry
        self._running = running
        self._calls = calls
        self._clock = clock
        self._timeout = timeout

    @property
    def actions(self) -> Sequence[str]:
        """The names of the actions that it has handlers for."""
        return self._registry.names

    @property
    def exhausted(self) -> asyncio.Event:
        """Set when there are too many handlers that do not end."""
        return self._calls.exhausted

    async def keep_up(self) -> None:
        """Renews leases, and watches over what runs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._running.renew_leases(), name="renew leases")
            group.create_task(self._running.watch(), name="watch")

    def interrupt_all(self, reason: Interruption) -> None:
        """Interrupts every attempt."""
        self._running.interrupt_all(reason)

    async def close(self) -> None:
        """Ends the processes that wait for a handler."""
        await self._calls.close()

    async def perform(self, claimed: Claimed) -> Outcome:
        """What came of the attempt."""
        action = self._registry.find(claimed.payload.action)
        if action is None:
            return Failed(f"no action named {claimed.payload.action}", final=True)
        timeout = self._timeout if claimed.timeout is None else claimed.timeout / 1000
        context = Context(claimed.payload.id, claimed.attempt, self._clock() / 1000 + timeout, action.name)
        handler = asyncio.create_task(
            self._returned(action, claimed.payload.data, context), name=f"handler of {action.name}"
        )
        running = Running(claimed, handler, context, asyncio.get_running_loop().create_future())
        with self._running.including(running):
            in_time = await _end_of(running, timeout)
            await self._running.note_progress(running)
        return _outcome(running, None if in_time else TimedOut(timeout))

    async def _returned(self, action: Action, data: dict[str, Any], context: Context) -> Returned:
        try:
            return await self._calls.call(action, data, context)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its own failure
            return raised(error, self._clock())


async def _end_of(running: Running, seconds: float) -> bool:
    """Whether the handler ended within so many seconds, and uninterrupted; one that did not is cancelled."""
    handler: asyncio.Future[Any] = running.handler
    try:
        await asyncio.wait({handler, running.interruption}, timeout=seconds, return_when=FIRST_COMPLETED)
        return handler.done()
    finally:
        if not handler.done():
            running.tell_to_end()
            await asyncio.wait({handler}, timeout=CALLED_OFF_SECONDS if running.called_off else CANCEL_SECONDS)


def _outcome(running: Running, timed_out: TimedOut | None) -> Outcome:
    """What the handler returned goes before why it was cancelled: work that was done is not thrown away."""
    handler = running.handler
    own = handler.result() if handler.done() and not handler.cancelled() else None
    if isinstance(own, Completed):
        return own
    if running.interruption.done():
        return running.interruption.result()
    return timed_out or own or Failed("the handler cancelled itself")
