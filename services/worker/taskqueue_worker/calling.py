"""How a handler is called: on the event loop, in a thread, or in a process."""

import asyncio
from typing import Any

from taskqueue.actions import Action, Context
from taskqueue_worker.outcomes import Returned, returned
from taskqueue_worker.processes import Processes
from taskqueue_worker.threads import Threads


class Calls:
    """Calls handlers, each where it belongs; cancelled, it ends what can be ended."""

    def __init__(self) -> None:
        self._threads = Threads()
        self._processes = Processes()

    @property
    def exhausted(self) -> asyncio.Event:
        """Set when there are too many threads that do not end."""
        return self._threads.exhausted

    async def call(self, action: Action, data: dict[str, Any], context: Context) -> Returned:
        """What the handler brought about; raises what it raised, except from a process."""
        if action.process:
            return await self._processes.run(action, data, context)
        arguments = action.arguments(data, context)
        return returned(
            await (self._threads.run(action.handler, *arguments) if action.blocking else action(*arguments))
        )

    async def close(self) -> None:
        """Ends the processes that wait for a handler."""
        await self._processes.close()
