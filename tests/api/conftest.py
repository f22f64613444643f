"""An API on a socket, with a real store and a memory broker behind it."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.dispatch import Dispatcher
from taskqueue.events import LogEvent
from taskqueue.store.tasks import TaskStore
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serving
from taskqueue_api.settings import HttpSettings
from tests.support.http import Http, http_client


@dataclass(frozen=True)
class Api:
    """A running API, and what a test may look at behind it. Nothing is dispatched unless a test does so."""

    http: Http
    port: int
    database: Path
    collaborators: Collaborators
    log: list[MutableMapping[str, Any]]

    def reports(self, event: LogEvent) -> Sequence[MutableMapping[str, Any]]:
        """Every line of the log about `event`."""
        return [entry for entry in self.log if entry["name"] == event.name]

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[None]:
        """What is accepted is handed to the broker for as long as the block runs."""
        task = asyncio.create_task(self.collaborators.dispatcher.run())
        yield
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def api(
    no_connection_left: None, database: Path, store: TaskStore, memory_broker: MemoryBroker
) -> AsyncIterator[Api]:
    """An API that listens."""
    dispatcher = Dispatcher(memory_broker, store, system_clock)
    collaborators = Collaborators(store, memory_broker, dispatcher, system_clock)
    with capture_logs(processors=[merge_contextvars]) as log:
        async with (
            serving(collaborators, HttpSettings(port=0)) as port,
            http_client(f"http://127.0.0.1:{port}") as http,
        ):
            yield Api(http, port, database, collaborators, log)
