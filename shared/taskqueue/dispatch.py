"""Handing tasks to the broker: publish in batches, many in flight, and note a little later what it has confirmed.

Nothing here is promised to anybody: a task that is not handed over, for whatever reason, stays `pending` in the store,
falls due, and the sweep brings it again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from taskqueue import events, failpoints
from taskqueue.broker.contract import Broker
from taskqueue.clock import Clock, milliseconds
from taskqueue.errors import BrokerUnavailable, StoreError
from taskqueue.retry import Backoff
from taskqueue.schema import PRIORITIES, TaskMessage
from taskqueue.store.doors.sweeping import Sweeping
from taskqueue.store.queueing import Dispatched
from taskqueue.store.sweeps import MAX_CHARACTERS, Ready

MAX_WAITING: Final = 5_000
MAX_BATCH: Final = 100
BATCHES_IN_FLIGHT: Final = 4

NOTE_AFTER_SECONDS: Final = 0.005
"""How long after the broker's confirmation a task is noted as queued.

A worker that is free claims it within a millisecond or two, and would find the note ahead of it at the write lock; one
note then serves for all that was confirmed meanwhile, and changes nothing of what has been claimed.
"""

DISPATCH_LEASE_SECONDS: Final = 8.0
"""How long a dispatcher has a task to itself; longer than the broker has to confirm (5 s)."""

REFUSED: Final = Backoff(first=1, ceiling=5)


class Dispatcher:
    """Publishes ready tasks, in the order in which they are handed over."""

    def __init__(self, broker: Broker, store: Sweeping, clock: Clock) -> None:
        self._broker = broker
        self._store = store
        self._clock = clock
        self._waiting: asyncio.Queue[Ready] = asyncio.Queue(MAX_WAITING)
        self._characters = 0
        self._confirmed: list[Dispatched] = []
        self._any_confirmed = asyncio.Event()
        self._refusals = 0
        self._rests_until = 0

    @property
    def idle(self) -> bool:
        """Whether there is room for what a sweep finds, and a broker to take it, which has not just refused."""
        if self._clock() < self._rests_until:
            return False
        roomy = self._waiting.qsize() < MAX_WAITING // 4 and self._characters < MAX_CHARACTERS // 4
        return self._broker.connected and roomy

    def hand_over(self, ready: Ready) -> None:
        """Takes a task to publish. Where too many or too large ones wait already it is left to the sweep."""
        if not self._waiting.full() and self._characters < MAX_CHARACTERS:
            self._waiting.put_nowait(ready)
            self._characters += ready.characters

    async def run(self) -> None:
        """Publishes what is handed over, and notes what is confirmed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._note_what_is_confirmed())
            for _ in range(BATCHES_IN_FLIGHT):
                group.create_task(self._publish_batches())

    async def _publish_batches(self) -> None:
        while True:
            await self._publish(await self._next_batch())

    async def _next_batch(self) -> list[Ready]:
        batch = [await self._waiting.get()]
        while len(batch) < MAX_BATCH and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        self._characters -= sum(ready.characters for ready in batch)
        return batch

    async def _publish(self, batch: list[Ready]) -> None:
        levels = ([ready for ready in batch if ready.priority == priority] for priority in PRIORITIES)
        await asyncio.gather(*(self._publish_level(level) for level in levels if level))

    async def _publish_level(self, batch: list[Ready]) -> None:
        now = self._clock()
        bodies = [_message(ready, now).encode() for ready in batch]
        failpoints.reach("publish.sending")
        try:
            confirmed = await self._broker.publish(bodies, batch[0].priority)
        except BrokerUnavailable:
            return
        failpoints.reach("publish.confirmed")
        self._note_refusals(confirmed)
        self._confirmed += [
            Dispatched(ready.payload.id, ready.attempt, now)
            for ready, taken in zip(batch, confirmed, strict=True)
            if taken
        ]
        if self._confirmed:
            self._any_confirmed.set()

    async def _note_what_is_confirmed(self) -> None:
        while True:
            await self._any_confirmed.wait()
            await asyncio.sleep(NOTE_AFTER_SECONDS)
            await self._note_confirmed()

    async def _note_confirmed(self) -> None:
        self._any_confirmed.clear()
        dispatched, self._confirmed = self._confirmed, []
        # A note that is not taken costs a second message, which starts nothing.
        with suppress(StoreError):
            await self._store.mark_queued(dispatched)
            failpoints.reach("mark.committed")

    def _note_refusals(self, confirmed: Sequence[bool]) -> None:
        """A broker that is full is not asked again at once: each time all that is due would be taken for nothing."""
        if all(confirmed):
            self._refusals = 0
            return
        events.emit(events.PUBLISH_FAILED, tasks=confirmed.count(False))
        if self._clock() >= self._rests_until:
            self._refusals += 1
            self._rests_until = self._clock() + milliseconds(REFUSED.delay(self._refusals, draw=1))


def _message(ready: Ready, now: int) -> TaskMessage:
    return TaskMessage.of(ready.payload, ready.attempt, now, priority=ready.priority, alone=ready.alone)
