"""The attempts that run in this process: their leases are renewed, and each can be interrupted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from taskqueue.clock import Clock
from taskqueue.errors import StoreError
from taskqueue.store.tasks import TaskStore
from taskqueue.store.writes import Claimed, Lease
from taskqueue_worker.outcomes import HandedBack, Superseded

RENEW_SECONDS: Final = 1.0
CHALLENGE_SECONDS: Final = 3.0
"""How long the worker of a task that was delivered again has to show that it lives: a few renewals."""


@dataclass(eq=False)
class Running:
    """One attempt at work. `interruption` has the reason why it must not go on, once there is one."""

    claimed: Claimed
    handler: asyncio.Task[Any]
    interruption: asyncio.Future[HandedBack | Superseded]

    def interrupt(self, reason: HandedBack | Superseded) -> None:
        """Says that it must not go on; the first reason stands."""
        if not self.interruption.done():
            self.interruption.set_result(reason)


class RunningAttempts:
    """All attempts at work in this process."""

    def __init__(self, store: TaskStore, clock: Clock, lease: int) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._running: set[Running] = set()

    @contextmanager
    def including(self, running: Running) -> Iterator[None]:
        """Renews the lease of `running` for as long as the block runs."""
        self._running.add(running)
        try:
            yield
        finally:
            self._running.discard(running)

    def interrupt_all(self, reason: HandedBack | Superseded) -> None:
        """Interrupts every attempt."""
        for running in self._running:
            running.interrupt(reason)

    async def renew_leases(self) -> None:
        """Renews about once a second what was at work a second before, until cancelled."""
        while True:
            working = list(self._running)
            await asyncio.sleep(RENEW_SECONDS)
            await asyncio.gather(*(self._renew(running) for running in working if running in self._running))

    async def _renew(self, running: Running) -> None:
        lease = Lease(running.claimed.payload.id, running.claimed.attempt, self._clock() + self._lease)
        try:
            held = await self._store.renew(lease)
        except StoreError:
            return  # the next round tries again; the lease is many rounds long
        if not held and running in self._running:
            running.interrupt(Superseded())
