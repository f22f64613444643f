"""What tests everywhere may ask for: a migrated database, a store in it, and brokers."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import Clock, system_clock
from taskqueue.store.sqlite import use_bundled_sqlite
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue_migrate.runner import upgrade
from tests.support.database import connection_threads
from tests.support.docker import require_docker
from tests.support.eventually import eventually
from tests.support.processes import Service, running_service
from tests.support.rabbitmq import RabbitMQ, running_rabbitmq

use_bundled_sqlite()  # before a test imports sqlite3: two SQLites in one process break each other's locks

StartService = Callable[..., Service]

# How long an example takes is the machine's affair.
settings.register_profile("taskqueue", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("taskqueue"), max_examples=2_500)
settings.load_profile("taskqueue")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in os.environ:
        if name.startswith("TASKQUEUE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A migrated SQLite file."""
    path = tmp_path / "tasks.db"
    upgrade(path)
    return path


@pytest.fixture
def clock() -> Clock:
    """The time of `store`; a folder whose tests move it has its own."""
    return system_clock


@pytest.fixture
async def no_connection_left() -> AsyncIterator[None]:
    """A connection that a test cancelled or failed to open ends before the test's event loop does."""
    before = connection_threads()
    yield
    await eventually(lambda: connection_threads() <= before, what="the end of all connections")


@pytest.fixture
async def store(database: Path, clock: Clock) -> AsyncIterator[TaskStore]:
    """A store in a file of its own."""
    async with open_store(database, clock, lambda: clock() / 1000) as opened:
        yield opened


@pytest.fixture
def memory_broker() -> MemoryBroker:
    """A broker in memory."""
    return MemoryBroker()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A real RabbitMQ, shared by all tests: each uses it without its queues, see `clean_rabbitmq`."""
    require_docker()
    with running_rabbitmq() as broker:
        yield broker


@pytest.fixture
def clean_rabbitmq(rabbitmq: RabbitMQ) -> RabbitMQ:
    """The real RabbitMQ, without any queue."""
    rabbitmq.forget_queues()
    return rabbitmq


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    """Starts a service's module as a process of its own, with the settings given; none outlives its test."""
    numbers = count(1)
    with ExitStack() as running:

        def start(module: str, **settings: object) -> Service:
            log_file = tmp_path / f"{next(numbers)}.{module}.log"
            return running.enter_context(running_service(module, tmp_path, log_file, settings))

        yield start
