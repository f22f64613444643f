"""Programs that real processes run on one database, all at the same time: each says "ready" and begins at a word."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from taskqueue.clock import system_clock
from taskqueue.errors import QueryFailed
from taskqueue.schema import TaskMessage, TaskOptions, TaskPayload, TaskStatus
from taskqueue.store.claims import Claimed
from taskqueue.store.orders import Order
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore, open_store
from tests.support.frozen_clock import START, FrozenClock

IDS: Final = tuple(f"t{number}" for number in range(12))
KEYS: Final = ("k", "l")
ENDS: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PENDING)
LEASES: Final = (5, 50, 500)
ACTORS: Final = 4


async def tick(database: Path, minutes: int) -> None:
    """Sweeps at each minute, as a process does whose clock runs fast."""
    clock = FrozenClock(START)
    async with open_store(database, clock) as store:
        await _begin()
        for _ in range(minutes):
            clock.advance(60)
            while await store.tick_schedules(8_000):
                pass


class Disorder:
    """Does at random what clients, workers, sweeps and retention do to a few tasks."""

    def __init__(self, store: TaskStore, chance: random.Random) -> None:
        self._store = store
        self._chance = chance
        self._held: list[Claimed] = []
        self._steps: tuple[Callable[[str, int], Awaitable[object]], ...] = (
            *(self._add, self._add_once, self._claim, self._claim, self._claim, self._settle, self._settle),
            *(self._sweep, self._cancel, self._retry, self._erase, self._retain),
        )

    async def run(self, steps: int) -> None:
        """So many steps by each of a few actors."""
        async with asyncio.TaskGroup() as group:
            for _ in range(ACTORS):
                group.create_task(self._act(steps))

    async def _act(self, steps: int) -> None:
        for _ in range(steps):
            await self._chance.choice(self._steps)(self._chance.choice(IDS), system_clock())

    async def _add(self, task_id: str, now: int) -> None:
        with suppress(QueryFailed):  # where the id is taken
            await self._store.add(_payload(task_id), now + self._chance.choice(LEASES), TaskOptions(tags=("x",)))

    async def _add_once(self, task_id: str, now: int) -> None:
        payload = _payload(f"{task_id}-{self._chance.random()}")
        key = self._chance.choice(KEYS)
        await self._store.add_once(payload, now, TaskOptions(tags=("y",)), key=key, fingerprint="f")

    async def _claim(self, task_id: str, _: int) -> None:
        message = TaskMessage.of(_payload(task_id), self._chance.randrange(4), 1)
        claimed = await self._store.claim(message, "w", self._chance.choice(LEASES), 5)
        if isinstance(claimed, Claimed):
            self._held.append(claimed)

    async def _settle(self, _: str, now: int) -> None:
        if self._held:
            held = self._held.pop(self._chance.randrange(len(self._held)))
            end = self._chance.choice(ENDS)
            await self._store.settle(Settlement(held.payload.id, held.attempt, end, due_at=now, now=now))

    async def _sweep(self, _: str, now: int) -> None:
        taken = await self._store.take_due(self._chance.choice(LEASES), 3, 5)
        await self._store.mark_queued([Dispatched(ready.payload.id, ready.attempt, now) for ready in taken.ready])
        await self._store.requeue_lost(now - 20)

    async def _cancel(self, task_id: str, now: int) -> None:
        await self._store.cancel(Order(task_id, now))

    async def _retry(self, task_id: str, now: int) -> None:
        await self._store.retry(Order(task_id, now, due_at=now))

    async def _erase(self, task_id: str, now: int) -> None:
        await self._store.erase(Order(task_id, now))

    async def _retain(self, _: str, now: int) -> None:
        old = await self._store.look_for_old(0, now - 200)
        await self._store.remove_old([task_id for task_id, _ in old.finished], now - 200)


def _payload(task_id: str) -> TaskPayload:
    return TaskPayload(id=task_id, action="a", data={}, created_at=1)


async def disorder(database: Path, seed: int) -> None:
    """A few hundred steps, by this seed."""
    async with open_store(database, system_clock) as store:
        await _begin()
        await Disorder(store, random.Random(seed)).run(100)


async def _begin() -> None:
    print("ready", flush=True)  # noqa: T201 - to the test that waits for it
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run({"tick": tick, "disorder": disorder}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
