"""A worker at work on a real store and a memory broker, with a dispatcher and a sweep, as in embedded mode."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from taskqueue import sweep
from taskqueue.actions import Action
from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import milliseconds, system_clock
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS, Dispatcher
from taskqueue.events import LogEvent
from taskqueue.requests import TaskRequest
from taskqueue.retry import Backoff
from taskqueue.schema import Task, TaskPayload, TaskStatus
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore
from taskqueue.sweep import DeliveryLog, Sweep
from taskqueue_worker import ledger, outcomes, running
from taskqueue_worker.assembly import assemble_worker
from taskqueue_worker.settings import WorkSettings
from taskqueue_worker.worker import Worker
from tests.support.database import change, rows
from tests.support.eventually import eventually

MODULE_OF_ACTIONS = "actions_of_this_test"
FINAL = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens about once a second in production happens many times a second here."""
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(running, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(outcomes, "BACKOFF", Backoff(first=0.02, ceiling=0.02))
    monkeypatch.setattr(ledger, "STORE_AWAY", Backoff(first=0.05, ceiling=0.05))


@dataclass(frozen=True)
class Running:
    """A worker that runs, and the way to stop it."""

    worker: Worker
    deliveries: DeliveryLog
    run: asyncio.Task[None]
    stopping: asyncio.Event

    async def stop(self) -> None:
        """Asks it to stop, and returns when it has."""
        self.stopping.set()
        await asyncio.wait({self.run}, timeout=30)
        assert self.run.done(), "the worker does not stop"
        self.run.result()


@dataclass(frozen=True)
class Workshop:
    """Where workers work, and what a test may look at there."""

    store: TaskStore
    broker: MemoryBroker
    database: Path
    log: list[MutableMapping[str, Any]]
    monkeypatch: pytest.MonkeyPatch

    @asynccontextmanager
    async def working(self, *actions: Action, **settings: Any) -> AsyncIterator[Running]:
        """A worker with these actions beside the built-in ones, for as long as the block runs."""
        dispatcher = Dispatcher(self.broker, self.store, system_clock)
        chosen = WorkSettings().model_copy(
            update={"simulated_work_seconds": 0, "actions": self._module(actions)} | settings
        )
        sweeping = Sweep(self.store, self.broker, dispatcher, system_clock, chosen.max_attempts)
        worker = assemble_worker(self.broker, self.store, sweeping.deliveries, system_clock, chosen)
        stopping = asyncio.Event()
        run = asyncio.create_task(worker.run(stopping))
        background = [asyncio.create_task(dispatcher.run()), asyncio.create_task(sweeping.run())]
        try:
            yield (working := Running(worker, sweeping.deliveries, run, stopping))
            await working.stop()
        finally:
            for task in (run, *background):
                task.cancel()
            await asyncio.gather(run, *background, return_exceptions=True)

    async def submit(self, action: str, data: Mapping[str, Any] | None = None) -> str:
        """The id of a new task, recorded and published as the API does it."""
        payload = await self.record(action, data)
        dispatcher = Dispatcher(self.broker, self.store, system_clock)
        await dispatcher._publish([Ready(payload, attempt=0)])
        await dispatcher._note_confirmed()
        return payload.id

    async def record(self, action: str, data: Mapping[str, Any] | None = None) -> TaskPayload:
        """A new task on disk, which nobody has published yet."""
        now = system_clock()
        payload = TaskRequest(action=action, data=dict(data or {})).payload(created_at=now // 1000)
        await self.store.add(payload, due_at=now + milliseconds(DISPATCH_LEASE_SECONDS))
        return payload

    async def task(self, task_id: str) -> Task:
        """A task as a client reads it."""
        task = await self.store.find(task_id)
        assert task is not None
        return task

    async def finished(self, task_id: str, *, within: float = 20) -> Task:
        """A task once it is final."""

        async def final() -> Task | None:
            task = await self.store.find(task_id)
            return task if task and task.status in FINAL else None

        task: Task = await eventually(final, within=within, what=f"the end of task {task_id}")
        return task

    async def outcome(self, action: str, data: Mapping[str, Any] | None = None) -> Task:
        """What comes of a new task."""
        return await self.finished(await self.submit(action, data))

    async def running_tasks(self, count: int) -> None:
        """Returns once so many tasks are `running`."""
        query = "SELECT count(*) FROM tasks WHERE status = 'running'"
        await eventually(lambda: rows(self.database, query) == [(count,)], what=f"{count} running tasks")

    async def reported(self, event: LogEvent) -> MutableMapping[str, Any]:
        """The first line of the log about `event`, once it is there."""
        entries: Sequence[MutableMapping[str, Any]] = await eventually(
            lambda: self.reports(event), what=f"the report of {event.name}"
        )
        return entries[0]

    def reports(self, event: LogEvent) -> Sequence[MutableMapping[str, Any]]:
        """Every line of the log about `event` so far."""
        return [entry for entry in self.log if entry.get("name") == event.name]

    def call_off(self, task_id: str) -> None:
        """Asks that a running task be cancelled, as the API does it."""
        change(self.database, "UPDATE tasks SET cancel_requested_at = 1 WHERE id = ?", task_id)

    def column(self, task_id: str, name: str) -> Any:
        """What a column of the task's row holds."""
        [row] = rows(self.database, f"SELECT {name} FROM tasks WHERE id = ?", task_id)  # noqa: S608 - a test's own name
        return row[0]

    def _module(self, actions: Sequence[Action]) -> str:
        if not actions:
            return ""
        module = ModuleType(MODULE_OF_ACTIONS)
        vars(module).update({f"action_{number}": action for number, action in enumerate(actions)})
        self.monkeypatch.setitem(sys.modules, MODULE_OF_ACTIONS, module)
        return MODULE_OF_ACTIONS


@pytest.fixture
def workshop(
    no_connection_left: None,
    database: Path,
    store: TaskStore,
    memory_broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workshop]:
    """A workshop with nobody at work yet."""
    with capture_logs(processors=[merge_contextvars]) as log:
        yield Workshop(store, memory_broker, database, log, monkeypatch)


class Gate:
    """A place where an async handler waits for the test; it counts who has come."""

    def __init__(self) -> None:
        self.arrivals = 0
        self._open = asyncio.Event()

    async def pass_through(self) -> None:
        """Returns once the gate is open."""
        self.arrivals += 1
        await self._open.wait()

    def open(self) -> None:
        """Lets everybody through."""
        self._open.set()

    async def arrived(self, count: int = 1) -> None:
        """Returns once so many have come."""
        await eventually(lambda: self.arrivals >= count, what=f"{count} handlers at the gate")


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()
