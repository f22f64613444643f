"""RabbitMQ stops, and API and worker, as real processes, go on without it; it comes back, and they go back to it."""

from pathlib import Path

import pytest

from taskqueue import events
from tests.conftest import StartService
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.http import http_client
from tests.support.rabbitmq import RabbitMQ

AT_ONCE = 15
MINUTE = 60


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_tasks_are_done_while_rabbitmq_is_stopped_and_none_twice(
    start_service: StartService, database: Path, clean_rabbitmq: RabbitMQ
) -> None:
    """What it holds and what comes meanwhile have their results before it is back; what comes then goes through it."""
    where = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": clean_rabbitmq.url}
    api = start_service("taskqueue_api", PORT=0, **where)
    async with http_client(await api.url()) as http:
        await eventually(lambda: api.reports(events.BROKER_CONNECTED), within=MINUTE, what="the API's connection")
        held = [await http.submitted("sum", {"numbers": [number]}) for number in range(AT_ONCE)]
        await eventually(lambda: _count(database, "queued") == AT_ONCE, within=MINUTE, what="the queue holds them")

        clean_rabbitmq.stop_app()
        try:
            await api.reported(events.BROKER_LOST)
            worker = start_service("taskqueue_worker", **where)
            meanwhile = [await http.submitted("sum", {"numbers": [number]}) for number in range(AT_ONCE)]
            await eventually(
                lambda: _count(database, "completed") == 2 * AT_ONCE, within=MINUTE, what="all results without RabbitMQ"
            )
            degraded = await http.get("/readyz")
        finally:
            clean_rabbitmq.start_app()

        await worker.reported(events.BROKER_CONNECTED)
        await eventually(lambda: _messages(clean_rabbitmq) == 0, within=MINUTE, what="the old messages are gone")
        later = [await http.submitted("sum", {"numbers": [number]}) for number in range(AT_ONCE)]
        tasks = [await http.finished(task_id) for task_id in (*held, *meanwhile, *later)]

    assert (degraded.status, degraded.json["status"]) == (200, "degraded")
    assert [(task["status"], task["result"]["output"]) for task in tasks] == [
        ("completed", number) for number in (*range(AT_ONCE),) * 3
    ]
    assert rows(database, "SELECT DISTINCT attempt FROM tasks") == [(1,)]
    await eventually(
        lambda: len(worker.reports(events.TASK_COMPLETED)) >= 3 * AT_ONCE, within=MINUTE, what="their ends"
    )
    assert len(worker.reports(events.TASK_COMPLETED)) == 3 * AT_ONCE
    assert len(worker.reports(events.WITHOUT_BROKER)) == 1
    assert worker.outbursts == []


def _count(database: Path, status: str) -> int:
    [(count,)] = rows(database, "SELECT count(*) FROM tasks WHERE status = ?", status)
    return int(count)


def _messages(rabbitmq: RabbitMQ) -> int:
    listing = rabbitmq.table("list_queues", "name", "messages")
    return sum(int(row["messages"]) for row in listing if row["name"] == "tasks")
