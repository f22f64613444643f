"""The worker: receives, executes, drains."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final

from taskqueue import events, failpoints
from taskqueue.broker.contract import Broker, Delivery, Subscription
from taskqueue.errors import WorkerExhausted
from taskqueue_worker import direct
from taskqueue_worker.execution import Execution
from taskqueue_worker.handling import Handling
from taskqueue_worker.outcomes import HandedBack
from taskqueue_worker.presence import Presence
from taskqueue_worker.settings import WorkSettings

HAND_BACK_SHARE: Final = 0.25
"""The part of the grace that is kept for handing back what does not finish."""


class Worker:
    """Performs tasks from the broker, as many at once as the broker lets it hold."""

    def __init__(
        self, broker: Broker, execution: Execution, handling: Handling, presence: Presence, settings: WorkSettings
    ) -> None:
        self._broker = broker
        self._execution = execution
        self._handling = handling
        self._presence = presence
        self._settings = settings
        self._executions: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    @property
    def consuming(self) -> bool:
        """Whether every consumer is known to receive."""
        return self._subscription is not None and self._subscription.consuming

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; then finishes or hands back what it has, within the grace, and takes no more.

        Raises WorkerExhausted after the same where too many handlers hang. A part of it that fails ends it at once: a
        worker that renews no lease, say, must not seem to be well.
        """
        async with asyncio.TaskGroup() as group:
            detour = group.create_task(self._work_without_broker(), name="work without the broker")
            keeping_up = group.create_task(self._handling.keep_up(), name="keep up")
            try:
                async with self._presence.shown():
                    await self._consume(stop, detour)
            finally:
                detour.cancel()
                keeping_up.cancel()
                await self._handling.close()
        if not stop.is_set():
            raise WorkerExhausted

    async def _consume(self, stop: asyncio.Event, detour: asyncio.Task[None]) -> None:
        channels, prefetch_count = self._settings.channels, self._settings.prefetch_count
        async with self._broker.subscribe(
            self._receive, channels=channels, prefetch_count=prefetch_count
        ) as self._subscription:
            events.emit(events.STARTED, service="worker", channels=channels, actions=self._handling.actions)
            await _either(stop, self._handling.exhausted)
            detour.cancel()
            await self._subscription.stop()
            self._execution.close()
            failpoints.reach("drain.begun")
            await self._drain()

    def _receive(self, delivery: Delivery) -> None:
        self._start(self._execution.run(delivery))

    async def _work_without_broker(self) -> None:
        """Takes tasks straight from the store, for as long as this worker has not consumed for a while."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        around = False
        while True:
            await self._wait_for_room()
            if self.consuming:
                heard_at, around = loop.time(), False
            elif loop.time() - heard_at >= direct.AWAY_SECONDS:
                if not around:
                    events.emit(events.WITHOUT_BROKER)
                around = True
                for execution in await self._execution.without_broker(max(0, self._room)):
                    self._start(execution)

    async def _wait_for_room(self) -> None:
        """A second; less where this worker is full, and an execution ends."""
        if self._room > 0:
            await asyncio.sleep(direct.POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter needs no secrecy
        else:
            await asyncio.wait(self._executions, timeout=direct.POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    @property
    def _room(self) -> int:
        return self._settings.concurrency - len(self._executions)

    def _start(self, running: Coroutine[Any, Any, None]) -> None:
        execution = asyncio.create_task(running, name="execution")
        self._executions.add(execution)
        execution.add_done_callback(self._executed)

    def _executed(self, execution: asyncio.Task[None]) -> None:
        self._executions.discard(execution)
        if not execution.cancelled() and execution.exception() is not None:
            events.emit(events.EXECUTION_BROKE, exc_info=execution.exception())

    async def _drain(self) -> None:
        grace = self._settings.shutdown_grace_seconds
        await self._wait(grace * (1 - HAND_BACK_SHARE))
        self._handling.interrupt_all(HandedBack())
        await self._wait(grace * HAND_BACK_SHARE)
        for execution in self._executions:
            execution.cancel()
        await self._wait(1.0)

    async def _wait(self, seconds: float) -> None:
        if self._executions:
            await asyncio.wait(self._executions, timeout=seconds)


async def _either(*happenings: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(happening.wait()) for happening in happenings]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
