"""`/livez` and `/readyz`: what a supervisor and a load balancer are told."""

import asyncio
from dataclasses import replace

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue_api.endpoints import health
from taskqueue_api.server import serving
from taskqueue_api.settings import HttpSettings
from tests.api.conftest import Api
from tests.support.database import change
from tests.support.eventually import eventually
from tests.support.http import raw_connection


async def test_a_process_that_answers_is_alive(api: Api) -> None:
    """200 and one word."""
    answer = await api.http.get("/livez")

    assert (answer.status, answer.body) == (200, b'{"status":"pass"}')


async def test_an_api_with_all_it_needs_is_ready(api: Api) -> None:
    """200, and a verdict on each dependency."""
    answer = await api.http.get("/readyz")

    assert (answer.status, answer.body) == (
        200,
        b'{"status":"pass","checks":{"database":"pass","broker":"pass","accepting":"pass"}}',
    )


async def test_an_api_without_its_broker_is_degraded_and_still_ready(api: Api, memory_broker: MemoryBroker) -> None:
    """Tasks are accepted and wait on disk, so requests may still be sent here."""
    memory_broker.connected = False

    answer = await api.http.get("/readyz")

    assert (answer.status, answer.body) == (
        200,
        b'{"status":"degraded","checks":{"database":"pass","broker":"fail","accepting":"pass"}}',
    )
    assert (await api.http.post({"action": "a"})).status == 202


@pytest.mark.parametrize(
    "fault",
    ["DROP TABLE alembic_version", "UPDATE alembic_version SET version_num = '9999'", "DELETE FROM alembic_version"],
)
async def test_an_api_without_its_schema_is_not_ready(api: Api, fault: str) -> None:
    """503: a schema that this version does not know is no database to it."""
    change(api.database, fault)

    answer = await api.http.get("/readyz")

    assert (answer.status, answer.body) == (
        503,
        b'{"status":"fail","checks":{"database":"fail","broker":"pass","accepting":"pass"}}',
    )


async def test_a_database_that_does_not_answer_fails_the_check_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hanging disk must not hang the check, nor whoever asks."""
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(api.collaborators.store, "check", asyncio.Event().wait)

    assert (await api.http.get("/readyz")).status == 503


async def test_the_check_is_quicker_than_those_who_ask_it() -> None:
    """The health check of the container waits for three seconds."""
    assert health.CHECK_TIMEOUT_SECONDS < 3


async def test_a_failing_database_does_not_make_the_process_dead(api: Api) -> None:
    """Restarting it would not help, so liveness asks nobody else."""
    change(api.database, "DROP TABLE alembic_version")

    assert (await api.http.get("/livez")).status == 200


async def test_a_draining_api_is_not_ready(api: Api) -> None:
    """503 from the first moment of the stop, though everything else is well."""
    api.collaborators.draining = True

    answer = await api.http.get("/readyz")

    assert (answer.status, answer.body) == (
        503,
        b'{"status":"fail","checks":{"database":"pass","broker":"pass","accepting":"fail"}}',
    )


async def test_an_api_that_stops_is_draining(api: Api) -> None:
    """Whoever still reaches it while it ends is told to go elsewhere."""
    collaborators = replace(api.collaborators)
    async with serving(collaborators, HttpSettings(port=0)):
        assert not collaborators.draining

    assert collaborators.draining


async def test_readiness_comes_back(api: Api, memory_broker: MemoryBroker) -> None:
    """Each answer is of its own moment."""
    memory_broker.connected = False
    assert (await api.http.get("/readyz")).json["status"] == "degraded"

    memory_broker.connected = True

    assert (await api.http.get("/readyz")).json["status"] == "pass"


async def test_nobody_who_is_silent_keeps_others_from_being_served(api: Api) -> None:
    """Connections that say nothing cost a connection, and no more."""
    async with asyncio.TaskGroup() as group:
        released = asyncio.Event()
        opened = asyncio.Semaphore(0)

        async def be_silent() -> None:
            async with raw_connection(api.port):
                opened.release()
                await released.wait()

        for _ in range(50):
            group.create_task(be_silent())
        for _ in range(50):
            await opened.acquire()

        await eventually(api.http.readiness, what="an answer")
        released.set()
