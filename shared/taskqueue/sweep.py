"""The one clock of the system: what is due is taken and handed out, and what the broker has lost is found.

Any API or worker process may sweep; the store sees to it that no two take the same row.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from taskqueue import events, failpoints
from taskqueue.broker.contract import HIGH_IN_A_ROW, Broker
from taskqueue.clock import Clock, milliseconds
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS, Dispatcher
from taskqueue.errors import BrokerUnavailable, StoreError
from taskqueue.retention import Retention
from taskqueue.schema import HIGH, PRIORITIES
from taskqueue.store.doors.sweeping import Sweeping
from taskqueue.store.tasks import TaskStore

SWEEP_SECONDS: Final = 1.0
SWEEP_LIMIT: Final = 500
SEARCH_SECONDS: Final = 10.0
SEARCH_SLACK_SECONDS: Final = 10.0
"""How much younger a delivered message must be than a queued one that did not come, for that one to count as lost."""
RAISE_AFTER_SECONDS: Final = 10.0
"""So long a normal task is queued before it may be raised: a short burst of high ones goes first as a whole."""

CREDIT: Final = 5
"""So many normal messages that came early are remembered: enough for what two channels and many workers mix up."""


@asynccontextmanager
async def dispatching(
    store: TaskStore, broker: Broker, clock: Clock, max_attempts: int, retention_days: float
) -> AsyncIterator[tuple[Dispatcher, "Sweep"]]:
    """A dispatcher, a sweep and retention at work for as long as the block runs. Where one fails, so does the block."""
    dispatcher = Dispatcher(broker, store, clock)
    sweep = Sweep(store, broker, dispatcher, clock, max_attempts)
    async with asyncio.TaskGroup() as group:
        at_work = (dispatcher, sweep, Retention(store, clock, retention_days))
        background = [group.create_task(each.run()) for each in at_work]
        yield dispatcher, sweep
        for task in background:
            task.cancel()


class DeliveryLog:
    """The youngest message that was delivered here, of each priority: the queue is in order within a priority.

    So all that has the same priority and is much older is past; of the other priority it says nothing. It
    counts as well by how many the high ones are ahead of their share.
    """

    def __init__(self, clock: Clock) -> None:
        self._ahead = 0
        self._youngest = dict.fromkeys(PRIORITIES, 0)
        self._clock = clock

    def youngest(self, priority: int) -> int:
        """When the youngest delivered message of `priority` was made (ms); 0 where there was none."""
        return self._youngest[priority]

    def note(self, dispatched_at: int, priority: int) -> None:
        """A message that was made at `dispatched_at` (ms) has been delivered. One from the future is not believed."""
        high = priority >= HIGH
        self._ahead = self._ahead + 1 if high else max(self._ahead - HIGH_IN_A_ROW, -CREDIT * HIGH_IN_A_ROW)
        if dispatched_at <= self._clock() and priority in self._youngest:
            self._youngest[priority] = max(self._youngest[priority], dispatched_at)

    def take_arrears(self) -> int:
        """How many more normal messages would have come here, had they had their share; each is told once."""
        arrears = max(self._ahead, 0) // HIGH_IN_A_ROW
        self._ahead -= arrears * HIGH_IN_A_ROW
        return arrears


class Sweep:
    """Brings back what is due, and what is lost."""

    def __init__(
        self, store: Sweeping, broker: Broker, dispatcher: Dispatcher, clock: Clock, max_attempts: int
    ) -> None:
        self.deliveries = DeliveryLog(clock)
        self._store = store
        self._broker = broker
        self._dispatcher = dispatcher
        self._clock = clock
        self._max_attempts = max_attempts

    async def run(self) -> None:
        """Sweeps until cancelled."""
        async with asyncio.TaskGroup() as group:
            # Each by itself: one that finds work without end must not hold up the others.
            group.create_task(self._repeat(self._bring_due, SWEEP_SECONDS))
            group.create_task(self._repeat(self._find_lost, SEARCH_SECONDS))
            group.create_task(self._repeat(self._tick_schedules, SWEEP_SECONDS))
            group.create_task(self._repeat(self._raise_held_back, SWEEP_SECONDS))

    async def _bring_due(self) -> None:
        while await self._bring_some() == SWEEP_LIMIT:
            pass

    async def _bring_some(self) -> int:
        """How many tasks were due and are handed out, as many at once as the dispatcher has room for."""
        limit = SWEEP_LIMIT if self._dispatcher.idle else 0
        taken = await self._store.take_due(milliseconds(DISPATCH_LEASE_SECONDS), self._max_attempts, limit)
        if taken.ready:
            failpoints.reach("sweep.taken")
        for ready in taken.ready:
            self._dispatcher.hand_over(ready)
            failpoints.reach("sweep.handed")
        if taken.ready:
            events.emit(events.SWEPT, tasks=len(taken.ready))
        if taken.failed:
            events.emit(events.WORKER_LOST, task_ids=list(taken.failed))
        return len(taken.ready)

    async def _tick_schedules(self) -> None:
        tasks = 0
        # At noon more may be due than one transaction makes.
        while made := await self._store.tick_schedules(milliseconds(DISPATCH_LEASE_SECONDS)):
            failpoints.reach("sweep.ticked")
            for ready in made:
                self._dispatcher.hand_over(ready)
            tasks += len(made)
        if tasks:
            events.emit(events.SCHEDULED, tasks=tasks)

    async def _raise_held_back(self) -> None:
        """A broker may hand out no normal message while high ones wait: what it owes them is raised to their line."""
        arrears = self.deliveries.take_arrears()
        made_before = self._clock() - milliseconds(RAISE_AFTER_SECONDS)
        if arrears and (raised := await self._store.raise_held_back(made_before, arrears)):
            events.emit(events.TASKS_RAISED, tasks=raised)

    async def _find_lost(self) -> None:
        now = self._clock()
        empty = await self._broker_is_empty()
        lost = 0
        for priority in PRIORITIES:
            gone = now if empty else self.deliveries.youngest(priority)
            lost += await self._store.requeue_lost(gone - milliseconds(SEARCH_SLACK_SECONDS), priority)
        if lost:
            failpoints.reach("sweep.requeued")
            events.emit(events.MESSAGES_LOST, tasks=lost)

    async def _broker_is_empty(self) -> bool:
        try:
            return await self._broker.ready_count() == 0
        except BrokerUnavailable:
            return False

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter needs no secrecy
            try:
                await step()
            except StoreError as error:
                events.emit(events.SWEEP_FAILED, reason=str(error))
