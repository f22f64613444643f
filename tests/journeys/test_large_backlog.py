"""100,000 tasks that wait: memory stays flat, health is answered, POST goes on, and work is done meanwhile."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartService
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ

TASKS = 100_000
BATCH = 1_000
WARM = 10_000
"""So many tasks until a process has the size that it then keeps."""

COUNT_SECONDS = 6.0
GROWTH_MIB = 64
"""What 90,000 further tasks may add: less than a kilobyte each, where a row has more."""

ANSWERED_WITHIN_SECONDS = 5
"""Generous, for a machine that does other things too; the numbers are printed (`pytest -s`)."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Watch:
    """What was measured on the way: the sizes of processes in MiB, and seconds to an answer."""

    services: dict[str, Service]
    sizes: dict[str, list[float]] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    posted: list[float] = field(default_factory=list)

    async def look(self, http: Http) -> None:
        """Once more: everybody's size, and one answer of each kind."""
        for name, service in self.services.items():
            self.sizes.setdefault(name, []).append(psutil.Process(service.pid).memory_info().rss / 2**20)
        begun = time.monotonic()
        assert (await http.get("/readyz")).status == 200
        between = time.monotonic()
        await http.submitted("sum", {"numbers": [1]})
        self.ready.append(between - begun)
        self.posted.append(time.monotonic() - between)

    def holds(self) -> None:
        """Nobody has grown, and nobody was kept waiting."""
        for name, sizes in self.sizes.items():
            print(f"{name}: {sizes[0]:.0f} MiB at first, {max(sizes):.0f} MiB at most")  # noqa: T201 - with -s
            assert max(sizes) - sizes[0] < GROWTH_MIB, (name, sizes)
        print(f"/readyz {max(self.ready):.3f} s, POST {max(self.posted):.3f} s at most")  # noqa: T201 - with -s
        assert max(self.ready + self.posted) < ANSWERED_WITHIN_SECONDS


async def _post(http: Http, number: int) -> None:
    batch = json.dumps({"tasks": [{"action": "sum", "data": {"numbers": [1, 2, 3]}}] * BATCH}).encode()
    for _ in range(number // BATCH):
        assert (await http.ask("POST", "/tasks/batch", batch)).status == 202


async def _in_status(database: Path, status: str) -> int:
    [(number,)] = await asyncio.to_thread(rows, database, "SELECT count(*) FROM tasks WHERE status = ?", status)
    return int(number)


async def _fill(http: Http, watch: Watch) -> None:
    """Tasks until there are as many as there should be; what was measured before it was warm does not count."""
    await _post(http, WARM)
    for _ in range(TASKS // WARM - 1):
        await watch.look(http)
        await _post(http, WARM)
    await watch.look(http)


@pytest.mark.docker
async def test_with_a_hundred_thousand_tasks_in_rabbitmq_api_and_worker_stay_as_they_are(
    start_service: StartService, database: Path, clean_rabbitmq: RabbitMQ
) -> None:
    """First they are posted while nobody works, then a worker begins on them; and no task has a second message."""
    settings = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": clean_rabbitmq.url, "LOG_LEVEL": "WARNING"}
    api = start_service("taskqueue_api", PORT=0, **(settings | {"LOG_LEVEL": "INFO"}))
    async with http_client(await api.url()) as http:
        filling = Watch({"api, while they are posted": api})
        await _fill(http, filling)

        async def dispatched() -> bool:
            return await _in_status(database, "queued") >= TASKS

        await eventually(dispatched, within=300, what="the dispatch of all")
        await filling.look(http)
        filling.holds()
        await _has_a_message_for_each(clean_rabbitmq, database)
        worker = start_service("taskqueue_worker", SIMULATED_WORK_SECONDS=0, **settings)
        await _completed(database, 1_000)
        working = Watch({"api, while they are done": api, "worker": worker})
        for done in range(2_000, 6_000, 500):
            await working.look(http)
            await _completed(database, done)
        working.holds()
        worker.terminate()
        assert await worker.ended() == 0
        await _has_a_message_for_each(clean_rabbitmq, database)


async def test_with_a_hundred_thousand_tasks_embedded_mode_stays_as_it_is(
    start_service: StartService, tmp_path: Path
) -> None:
    """In one process, whose worker is too slow for them."""
    database = tmp_path / "data" / "tasks.db"
    settings = {"DATABASE_URL": f"sqlite:///{database}", "PORT": 0, "LOG_FORMAT": "json"}
    service = start_service("taskqueue_embedded", SIMULATED_WORK_SECONDS=0.5, **settings)
    async with http_client(await service.url()) as http:
        watch = Watch({"embedded": service})
        await _fill(http, watch)
        for _ in range(5):
            await watch.look(http)
            await asyncio.sleep(1)
        watch.holds()
        assert await _in_status(database, "completed") > 0


async def _has_a_message_for_each(rabbitmq: RabbitMQ, database: Path) -> None:
    """RabbitMQ counts every 5 s: no more may come after the first count that is right."""

    async def counted() -> bool:
        return await asyncio.to_thread(_messages, rabbitmq) == await _in_status(database, "queued")

    await eventually(counted, within=60, what="a message for each queued task")
    await asyncio.sleep(COUNT_SECONDS)
    assert await counted()


def _messages(rabbitmq: RabbitMQ) -> int:
    (queue,) = [each for each in rabbitmq.table("list_queues", "name", "messages") if each["name"] == "tasks"]
    return int(queue["messages"])


async def _completed(database: Path, number: int) -> None:
    async def enough() -> bool:
        return await _in_status(database, "completed") >= number

    await eventually(enough, within=300, what=f"{number} completed tasks")
