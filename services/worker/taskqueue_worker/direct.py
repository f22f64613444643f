"""The way around a broker that is away: ready tasks, straight from the store.

Each becomes the message that the broker would have brought, and is claimed like any other: the messages that the broker
still holds then start nothing, when it is back.
"""

from collections.abc import Sequence
from typing import Final

from taskqueue import events, failpoints
from taskqueue.clock import Clock, milliseconds
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS
from taskqueue.errors import StoreError
from taskqueue.schema import TaskMessage
from taskqueue.store.doors.sweeping import Sweeping
from taskqueue.store.sweeps import Ready

AWAY_SECONDS: Final = 5.0
"""So long a worker hears nothing of the broker before it goes around it: more than a new connection takes."""

POLL_SECONDS: Final = 1.0


class DirectSupply:
    """Takes tasks for this worker alone, as a sweep does."""

    def __init__(self, store: Sweeping, clock: Clock, max_attempts: int) -> None:
        self._store = store
        self._clock = clock
        self._max_attempts = max_attempts

    async def take(self, room: int) -> Sequence[TaskMessage]:
        """Up to `room` tasks: due ones, then the oldest that are queued. What it got where the store fails, too."""
        ready: list[Ready] = []
        try:
            ready += await self._due(room)
            if len(ready) < room and await self._store.recall(room - len(ready)):
                ready += await self._due(room - len(ready))
        except StoreError as error:
            events.emit(events.SWEEP_FAILED, reason=str(error))
        if ready:
            failpoints.reach("direct.taken")
        now = self._clock()
        return [TaskMessage.of(r.payload, r.attempt, now, priority=r.priority, alone=r.alone) for r in ready]

    async def _due(self, room: int) -> list[Ready]:
        taken = await self._store.take_due(milliseconds(DISPATCH_LEASE_SECONDS), self._max_attempts, room)
        if taken.failed:
            events.emit(events.WORKER_LOST, task_ids=list(taken.failed))
        return list(taken.ready)
