"""RabbitMQ stands still, its connections open and silent: API and worker, as processes, end when they are asked."""

from pathlib import Path

import pytest

from taskqueue import events
from tests.conftest import StartService
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.http import http_client
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ
from tests.support.user_actions import MODULE, UserActions

SLOTS = 10
BEFORE = 25
GRACE_SECONDS = 15
CLOSING_SECONDS = 15
"""What may come on top of the grace on a slow machine; a service that waits for RabbitMQ would wait for ever."""

MINUTE = 60


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_stop_does_not_wait_for_a_broker_that_stands_still(
    start_service: StartService, database: Path, clean_rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """Both exit 0 within their grace; what ran is completed, what waited is done later, all of it once."""
    UserActions(tmp_path)
    where = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": clean_rabbitmq.url}
    where |= {"SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS)}
    api = start_service("taskqueue_api", PORT=0, **where)
    worker = start_service("taskqueue_worker", ACTIONS=MODULE, **where)
    async with http_client(await api.url()) as http:
        for service in (api, worker):
            await service.reported(events.BROKER_CONNECTED)
        posted = [await http.submitted("slow") for _ in range(BEFORE)]
        await eventually(lambda: _count(database, "running") == SLOTS, within=MINUTE, what="a worker with full hands")

        with clean_rabbitmq.frozen():
            posted += [await http.submitted("slow") for _ in range(SLOTS)]
            for service in (api, worker):
                service.terminate()
            codes = [await service.ended(within=GRACE_SECONDS + CLOSING_SECONDS) for service in (api, worker)]

    assert codes == [0, 0]
    assert api.outbursts == worker.outbursts == []
    assert _count(database, "running") == 0

    again = start_service("taskqueue_worker", ACTIONS=MODULE, **where)
    await eventually(lambda: _count(database, "completed") == len(posted), within=MINUTE, what="the end of all tasks")
    assert sorted(posted) == sorted(task_id for (task_id,) in rows(database, "SELECT id FROM tasks"))
    # A worker reports an end after it has recorded it.
    await eventually(lambda: len(_done(worker, again)) >= len(posted), within=MINUTE, what="the report of all ends")
    assert sorted(_done(worker, again)) == sorted(posted)


def _done(*workers: Service) -> list[str]:
    """The tasks whose completion they have reported, so far."""
    return [entry["task_id"] for worker in workers for entry in worker.reports(events.TASK_COMPLETED)]


def _count(database: Path, status: str) -> int:
    [(count,)] = rows(database, "SELECT count(*) FROM tasks WHERE status = ?", status)
    return int(count)
