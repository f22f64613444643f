"""The attempts that run in this process: their leases are renewed, and each can be interrupted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pydantic_core import to_json

from taskqueue import failpoints
from taskqueue.actions import Context
from taskqueue.actions import Progress as ReportedProgress
from taskqueue.clock import Clock
from taskqueue.errors import StoreError
from taskqueue.store.claims import Claimed
from taskqueue.store.doors.working import Working
from taskqueue.store.under_way import Lease, Progress
from taskqueue_worker.outcomes import Cancelled, Interruption, Returned, Superseded

RENEW_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 0.25
CHALLENGE_SECONDS: Final = 3.0
"""How long the worker of a task that was delivered again has to show that it lives: a few renewals."""


@dataclass(eq=False)
class Running:
    """One attempt at work. `interruption` has the reason why it must not go on, once there is one."""

    claimed: Claimed
    handler: asyncio.Task[Returned]
    context: Context
    interruption: asyncio.Future[Interruption]
    noted: ReportedProgress | None = None

    def interrupt(self, reason: Interruption) -> None:
        """Says that it must not go on; the first reason stands."""
        if not self.interruption.done():
            self.interruption.set_result(reason)

    @property
    def called_off(self) -> bool:
        """Whether somebody cancelled its task."""
        return self.interruption.done() and isinstance(self.interruption.result(), Cancelled)

    def tell_to_end(self) -> None:
        """Cancels the handler; a thread, which cannot be, finds it in its context."""
        if self.context.link is not None:
            self.context.link.interrupted = True
        self.handler.cancel()


class RunningAttempts:
    """All attempts at work in this process, which is the worker `name`. `lease` is in ms."""

    def __init__(self, store: Working, clock: Clock, lease: int, name: str) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._name = name
        self._running: dict[Running, None] = {}  # and no set, so that they are walked in the order of their beginning
        self._any = asyncio.Event()

    @contextmanager
    def including(self, running: Running) -> Iterator[None]:
        """Renews the lease of `running`, and watches over it, for as long as the block runs."""
        self._running[running] = None
        self._any.set()
        try:
            yield
        finally:
            del self._running[running]
            if not self._running:
                self._any.clear()

    def interrupt_all(self, reason: Interruption) -> None:
        """Interrupts every attempt."""
        for running in self._running:
            running.interrupt(reason)

    async def renew_leases(self) -> None:
        """Renews about once a second what was at work a second before, until cancelled."""
        while True:
            await self._any.wait()
            working = list(self._running)
            await asyncio.sleep(RENEW_SECONDS)
            await asyncio.gather(*(self._renew(running) for running in working if running in self._running))

    async def watch(self) -> None:
        """Several times a second, while anything runs: finds what was called off, and notes progress; until cancelled.

        One read, whatever the number of attempts, and a write for each that has told something new.
        """
        while True:
            await self._any.wait()
            await asyncio.sleep(WATCH_SECONDS)
            if self._running:
                await self._interrupt_called_off()
                await asyncio.gather(*(self.note_progress(running) for running in tuple(self._running)))

    async def note_progress(self, running: Running) -> None:
        """Records what the handler reported last, unless it is recorded."""
        latest = running.context.link.latest if running.context.link else None
        if latest is None or latest is running.noted:
            return
        running.noted = latest
        told = to_json({"fraction": latest.fraction, "message": latest.message}).decode()
        task_id, attempt = running.claimed.payload.id, running.claimed.attempt
        with suppress(StoreError):  # the next report tells more
            await self._store.report(Progress(task_id, attempt, self._clock(), told))

    async def _interrupt_called_off(self) -> None:
        try:
            called_off = set(await self._store.called_off(self._name))
        except StoreError:
            return  # the next round finds them
        for running in self._running:
            if (running.claimed.payload.id, running.claimed.attempt) in called_off:
                running.interrupt(Cancelled())

    async def _renew(self, running: Running) -> None:
        lease = Lease(running.claimed.payload.id, running.claimed.attempt, self._clock() + self._lease)
        try:
            held = await self._store.renew(lease)
        except StoreError:
            return  # the next round tries again; the lease is many rounds long
        failpoints.reach("lease.renewed")
        if not held and running in self._running:
            running.interrupt(Superseded())
