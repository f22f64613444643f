"""`python -m taskqueue_worker` as a supervisor sees it: how it starts, how it refuses to, and how it ends."""

from pathlib import Path

import aio_pika
import pytest

from taskqueue import events
from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, REASON_HEADER
from taskqueue.schema import TaskStatus
from taskqueue.store.tasks import TaskStore
from tests.conftest import StartService
from tests.support.database import change
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ
from tests.support.stored import found, submitted
from tests.support.user_actions import MODULE, UserActions

GRACE_SECONDS = 20


@pytest.fixture
def user_actions(tmp_path: Path) -> UserActions:
    """A module of actions where the workers are started."""
    return UserActions(tmp_path)


def _start(start_service: StartService, database: Path, broker_url: str | None = None, **settings: object) -> Service:
    ours = {
        "DATABASE_URL": f"sqlite:///{database}",
        "BROKER_URL": broker_url or f"amqp://127.0.0.1:{free_port()}/",
        "HEALTH_FILE": database.with_name("health"),
    }
    return start_service("taskqueue_worker", **(ours | settings))


async def test_all_bad_settings_are_reported_at_once(start_service: StartService) -> None:
    """Exit code 2, one line, and the name of every faulty variable in it."""
    bad = {
        "CHANNELS": "0",
        "PREFETCH_COUNT": "none",
        "TASK_TIMEOUT_SECONDS": "0",
        "SIMULATED_WORK_SECONDS": "-1",
        "LEASE_SECONDS": "0",
        "MAX_ATTEMPTS": "0",
        "BROKER_URL": "memory://",
        "DATABASE_URL": "mysql://x",
    }

    service = start_service("taskqueue_worker", **bad)

    assert await service.ended() == 2
    [refusal] = service.reports(events.START_REFUSED)
    assert [name for name in bad if f"TASKQUEUE_{name}: " not in refusal["reason"]] == []
    assert len(service.said.splitlines()) == 1


async def test_actions_that_cannot_be_imported_are_refused(start_service: StartService, database: Path) -> None:
    """Exit code 2, and the module by name: a worker without its actions would process them wrongly."""
    service = _start(start_service, database, ACTIONS="no.such.module")

    assert await service.ended() == 2
    assert "the module 'no.such.module' of TASKQUEUE_ACTIONS" in service.refusal


async def test_a_database_that_is_not_there_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """Exit code 75, and what to do about it."""
    service = _start(start_service, tmp_path / "none.db")

    assert await service.ended() == 75
    assert "run the migrate service first" in service.refusal


async def test_a_schema_that_is_not_known_is_refused(start_service: StartService, database: Path) -> None:
    """Exit code 65, and what to do about it."""
    change(database, "UPDATE alembic_version SET version_num = '9999'")

    service = _start(start_service, database)

    assert await service.ended() == 65
    assert "run the migrate service" in service.refusal


async def test_without_a_broker_it_lives_and_waits(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """It is alive, it is not ready, and SIGTERM ends it in order."""
    service = _start(start_service, database, ACTIONS=MODULE)
    await service.reported(events.BROKER_LOST)
    await eventually(database.with_name("health").exists, what="the worker's note")

    assert await _health(start_service, database, "live") == 0
    assert await _health(start_service, database, "ready") == 1
    service.terminate()
    assert await service.ended(within=GRACE_SECONDS) == 0
    assert service.outbursts == []


@pytest.mark.docker
async def test_it_finishes_what_it_does_when_it_is_asked_to_stop(
    start_service: StartService,
    database: Path,
    store: TaskStore,
    clean_rabbitmq: RabbitMQ,
    user_actions: UserActions,
) -> None:
    """Two consumers of five while it works; at SIGTERM it takes no more, records its result, and exits 0."""
    service = _start(start_service, database, clean_rabbitmq.url, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=GRACE_SECONDS)
    await eventually(lambda: _consumers(clean_rabbitmq) == [5, 5], within=30, what="two consumers")
    task_id = await submitted(store, "wait")
    await eventually(lambda: user_actions.began(task_id), within=30, what="the handler")
    await eventually(lambda: _is_ready(start_service, database), within=30, what="the health check says ready")

    service.terminate()
    await service.reported(events.STOPPING)
    await eventually(lambda: _consumers(clean_rabbitmq) == [], within=30, what="no consumer")
    user_actions.go_on()

    assert await service.ended(within=GRACE_SECONDS) == 0
    task = await found(store, task_id)
    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, {"attempt": 1}, 1)
    assert service.reports(events.STOPPED)
    assert service.outbursts == []


@pytest.mark.docker
async def test_a_task_whose_worker_is_killed_is_completed_by_another(
    start_service: StartService,
    database: Path,
    store: TaskStore,
    clean_rabbitmq: RabbitMQ,
    user_actions: UserActions,
) -> None:
    """Its message comes again and challenges the lease, which is an hour long; the result is recorded once."""
    settings = {"ACTIONS": MODULE, "LEASE_SECONDS": 3600}
    first = _start(start_service, database, clean_rabbitmq.url, **settings)
    task_id = await submitted(store, "wait")
    await eventually(lambda: user_actions.began(task_id), within=30, what="the first handler")
    second = _start(start_service, database, clean_rabbitmq.url, **settings)
    await second.reported(events.STARTED)

    first.kill()
    await eventually(lambda: user_actions.began(task_id, attempt=2), within=60, what="the second handler")
    user_actions.go_on()
    await second.reported(events.TASK_COMPLETED)

    task = await found(store, task_id)
    # The first attempt may have been lost by a neighbour's doing, and does not count.
    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, {"attempt": 2}, 1)
    assert len(second.reports(events.TASK_COMPLETED)) == 1
    assert first.reports(events.TASK_COMPLETED) == []


@pytest.mark.docker
async def test_what_nobody_can_read_is_kept_with_the_reason_and_is_in_nobodys_way(
    start_service: StartService, database: Path, store: TaskStore, clean_rabbitmq: RabbitMQ, user_actions: UserActions
) -> None:
    """More of it than a worker holds: each goes to `tasks.dead` with the reason in a header; the task behind runs."""
    unreadable = [b"not JSON %d" % number for number in range(12)]
    async with open_broker(clean_rabbitmq.url, "another producer") as broker:
        await eventually(lambda: broker.connected, within=30, what="the connection")
        assert all(await broker.publish([*unreadable, b'{"id": "behind", "action": "slow"}']))

    worker = _start(start_service, database, clean_rabbitmq.url, ACTIONS=MODULE)
    await worker.reported(events.TASK_COMPLETED)

    async with await aio_pika.connect(clean_rabbitmq.url) as connection:
        queue = await (await connection.channel()).get_queue(DEAD_LETTER_QUEUE)
        dead = [await queue.get() for _ in unreadable]
    assert sorted(message.body for message in dead) == sorted(unreadable)
    assert all("JSON" in str(message.headers[REASON_HEADER]) for message in dead)
    assert (await found(store, "behind")).status == TaskStatus.COMPLETED


async def _is_ready(start_service: StartService, database: Path) -> bool:
    return await _health(start_service, database, "ready") == 0


async def _health(start_service: StartService, database: Path, question: str) -> int:
    asked = start_service(f"taskqueue_worker.healthcheck {question}", HEALTH_FILE=database.with_name("health"))
    return await asked.ended()


def _consumers(rabbitmq: RabbitMQ) -> list[int]:
    listing = rabbitmq.table("list_consumers", "queue_name", "prefetch_count")
    return [row["prefetch_count"] for row in listing if row["queue_name"] == "tasks"]
