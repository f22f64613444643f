"""The processes of a history: API, worker, and both in one.

Each runs the product's own classes, put together as its `__main__` does it; killed, nothing of it runs any more, and a
new one takes its place over the same database.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from taskqueue.broker.contract import Broker
from taskqueue.clock import Clock
from taskqueue.errors import StoreError
from taskqueue.store.tasks import TaskStore
from taskqueue.sweep import dispatching
from taskqueue_api.collaborators import Collaborators
from taskqueue_worker.assembly import assemble_worker
from taskqueue_worker.settings import WorkSettings
from tests.simulation.actions import BEGINS
from tests.simulation.chance import Chance
from tests.simulation.connection import Connection
from tests.simulation.database import Database, SimulatedStore
from tests.simulation.loop import Lane, VirtualLoop
from tests.simulation.observer import Observer
from tests.simulation.server import Queue, Server
from tests.simulation.trace import Trace

MAX_ATTEMPTS: Final = 5
LEASES: Final = (5.0, 6.0, 8.0, 30.0)
NO_RETENTION: Final = 0


class Role(Enum):
    """What a process does."""

    API = "api"
    WORKER = "worker"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class World:
    """What all processes of a history have in common."""

    loop: VirtualLoop
    chance: Chance
    trace: Trace
    observer: Observer
    database: Database
    server: Server
    clock: Clock
    settings: WorkSettings


class Process:
    """One process, through all its incarnations."""

    def __init__(self, world: World, role: Role, number: int) -> None:
        self.role = role
        self.api: Collaborators | None = None
        self.lane = Lane("")
        self._world = world
        self._number = number
        self._incarnation = 0
        self._stop = asyncio.Event()
        self._connection: Connection | None = None

    def start(self) -> None:
        """A new incarnation."""
        world = self._world
        self._incarnation += 1
        self._stop = asyncio.Event()
        self.lane = lane = Lane(f"{self.role.value}-{self._number}.{self._incarnation}")
        lane.crash = self.kill
        lane.hold(BEGINS, self._handler_begins)
        world.trace.note("start", lane.name)
        ended = world.loop.create_task(self._live(lane), context=lane.context())
        ended.add_done_callback(lambda task: self._ended(lane, task), context=world.loop.world.context())

    def kill(self) -> None:
        """What kill -9 does; another incarnation follows."""
        if self.lane.alive:
            self._world.trace.note("killed", self.lane.name)
            self._world.loop.kill(self.lane)
            self._bury()

    def stop(self) -> None:
        """What SIGTERM does; another incarnation follows."""
        self._world.trace.note("stopping", self.lane.name)
        self._stop.set()

    def stall(self, seconds: float) -> None:
        """What SIGSTOP and, so much later, SIGCONT do."""
        if self.lane.alive and not self.lane.stalled:
            self._world.trace.note("stalled", self.lane.name, f"{seconds:.1f} s")
            self._world.loop.stall(self.lane, seconds)

    def cut(self, seconds: float) -> None:
        """It does not reach the broker for so long."""
        if self._connection is not None:
            self._connection.cut(seconds)

    def _bury(self) -> None:
        self.api = None
        if self._connection is not None:
            self._connection.end()
            self._connection = None
        seconds = self._world.chance.between(0.05, 3)
        self._world.loop.call_later(seconds, self.start, context=self._world.loop.world.context())

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        if not lane.alive:
            return
        error = task.exception()
        self._world.trace.note("ended", lane.name, repr(error) if error else "")
        if error is not None and not isinstance(error, StoreError):
            self._world.observer.breaks(f"no process fails by itself, as with {error!r}")
        self._world.loop.kill(lane)
        self._bury()

    def _handler_begins(self, task_id: str, attempt: int) -> None:
        self._world.observer.handler_begins(task_id, attempt)
        if self._world.chance.happens("crash in handler"):
            self.kill()

    async def _live(self, lane: Lane) -> None:
        world = self._world
        broker = self._broker(lane)
        async with self._store() as store:
            if self.role is Role.EMBEDDED:
                await store.resume()
            async with dispatching(store, broker, world.clock, MAX_ATTEMPTS, NO_RETENTION) as (dispatcher, sweep):
                self.api = Collaborators(store, broker, dispatcher, world.clock, max_attempts=MAX_ATTEMPTS)
                if self.role is Role.API:
                    await self._stop.wait()
                else:
                    worker = assemble_worker(broker, store, sweep.deliveries, world.clock, world.settings)
                    await worker.run(self._stop)
                self.api = None

    def _broker(self, lane: Lane) -> Broker:
        if self.role is Role.EMBEDDED:
            return Queue(self._world.observer)
        self._connection = Connection(self._world.server, lane)
        return self._connection

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[TaskStore]:
        world = self._world
        store = SimulatedStore(world.database, world.chance, world.observer, world.trace, world.clock)
        async with store.writer.running():
            await store.check()
            yield store
