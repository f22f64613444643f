"""A busy system balances at every instant, and at rest: one process, and API and workers around a real RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taskqueue.broker.connect import open_broker
from taskqueue.schema import HIGH
from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import FINAL, Http, http_client
from tests.support.rabbitmq import RabbitMQ

SECONDS = 4
CLIENTS = 4
AUDITS = 5


async def test_one_process_balances_under_load(start_service: StartService, tmp_path: Path) -> None:
    """Whatever clients do to their tasks meanwhile."""
    service = start_service(
        "taskqueue_embedded",
        DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db",
        PORT=0,
        LOG_FORMAT="json",
        SIMULATED_WORK_SECONDS=0.01,
    )
    async with http_client(await service.url()) as http:
        await _balances_under_load(http)
        service.terminate()
    assert await service.ended() == 0


@pytest.mark.docker
@pytest.mark.slow
async def test_processes_around_rabbitmq_balance_under_load(
    start_service: StartService, database: Path, clean_rabbitmq: RabbitMQ
) -> None:
    """Two workers and an API; one worker is killed, and what it held is told to be on its way."""
    ours = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": clean_rabbitmq.url, "SIMULATED_WORK_SECONDS": 0.01}
    working = {**ours, "LEASE_SECONDS": 5, "HEALTH_FILE": database.with_name("health")}
    workers = [start_service("taskqueue_worker", **working) for _ in range(2)]
    api = start_service("taskqueue_api", **ours, PORT=0)
    async with http_client(await api.url()) as http:
        await _balances_under_load(http)
        async with _load(http) as posted:
            await eventually(lambda: len(posted) > 50, what="some load")
            workers[0].kill()
            await _audited(http)
        report = await _at_rest(http)
        assert report["broker"] == {"ready": 0, "unacknowledged": None, "dead": 0}
    async with open_broker(clean_rabbitmq.url, "another producer") as producer:
        await eventually(lambda: producer.connected, what="its connection")
        await producer.publish([b"{"])
    async with http_client(await api.url()) as http:
        await eventually(lambda: _dead(http), what="the message in the dead-letter queue")


async def _dead(http: Http) -> bool:
    """Whether the audit knows of one message that nobody could read."""
    report = await _audit(http)
    [check] = [check for check in report["checks"] if check["name"] == "dead_letters"]
    assert (check["invariant"], check["verdict"]) == ("I5", "pass")
    return bool(report["broker"]["dead"] == 1)


async def _balances_under_load(http: Http) -> None:
    async with _load(http) as posted:
        await eventually(lambda: len(posted) > 20, what="some load")
        for _ in range(AUDITS):
            await _audited(http)
            await asyncio.sleep(SECONDS / AUDITS)
    report = await _at_rest(http)
    assert len(posted) <= report["tasks"]["accepted"]
    assert report["tasks"]["removed"] > 0
    assert report["claims"] == {"live": 0, "gone": 0}


async def _audited(http: Http) -> None:
    report = await _audit(http)
    assert report["balanced"], [check for check in report["checks"] if check["verdict"] == "fail"]
    accepted, *parts = report["tasks"].values()
    assert accepted == sum(parts)


async def _audit(http: Http) -> Any:
    answer = await http.get("/audit?integrity=1")
    assert answer.status == 200, answer
    return answer.json


async def _at_rest(http: Http) -> Any:
    """An audit once everything is final."""

    async def rested() -> Any:
        report = await _audit(http)
        tasks = report["tasks"]
        return report if not tasks["waiting"] + tasks["running"] else None

    report = await eventually(rested, within=60, what="rest")
    assert report["balanced"], report
    return report


@asynccontextmanager
async def _load(http: Http) -> AsyncIterator[list[str]]:
    """Clients that post, cancel, retry and delete for as long as the block runs; answers what was accepted so far."""
    posted: list[str] = []
    clients = [asyncio.create_task(_client(http, posted, number)) for number in range(CLIENTS)]
    try:
        yield posted
    finally:
        for client in clients:
            client.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def _client(http: Http, posted: list[str], number: int) -> None:
    while True:
        body: dict[str, Any] = {"action": "sum", "data": {"numbers": [1, 2]}, "priority": HIGH * (number % 2)}
        answer = await http.post(body, Idempotency_Key=f"{number}-{len(posted)}")
        task_id = answer.json["id"]
        posted.append(task_id)
        match len(posted) % 4:
            case 0:
                await http.ask("POST", f"/tasks/{task_id}/cancel")
            case 1:
                await http.ask("POST", f"/tasks/{task_id}/cancel")
                await http.ask("POST", f"/tasks/{task_id}/retry")
            case 2:
                gone = await http.finished(task_id)
                assert gone["status"] in FINAL
                assert (await http.ask("DELETE", f"/tasks/{task_id}")).status == 204
