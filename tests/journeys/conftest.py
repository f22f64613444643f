"""The systems that journeys are made on: each journey runs on both."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.journeys.client import Client, client_of
from tests.journeys.systems import ComposeSystem, System, running_compose, running_embedded

SYSTEMS = [
    "embedded_system",
    pytest.param("compose_system", marks=[pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]),
]
"""The names of their fixtures."""


@pytest.fixture(scope="session")
def compose_system() -> Iterator[ComposeSystem]:
    """The compose stack, up once for all journeys."""
    with running_compose(f"taskqueue-journeys-{os.getpid()}") as system:
        yield system


@pytest.fixture(scope="session")
def embedded_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Embedded mode, up once for all journeys."""
    with running_embedded(tmp_path_factory.mktemp("embedded")) as system:
        yield system


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> System:
    """Each of the two ways to run the real thing."""
    running: System = request.getfixturevalue(request.param)
    return running


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    """A client of the system."""
    async with client_of(system.url) as connected:
        yield connected
