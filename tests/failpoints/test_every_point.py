"""A walk through every failpoint: the process is killed there, and started again; nothing is lost, nothing is twice.

Clients post with an Idempotency-Key and ask again until they are answered. In the end each task is final, right, and
there once, and the audit balances. Rows 1 to 8 of the fault model.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pytest
from aiohttp import ClientError

from taskqueue.broker.connect import open_broker
from taskqueue.failpoints import POINTS
from taskqueue_migrate.runner import upgrade
from tests.failpoints.conftest import KILLED, Bench
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.http import http_client
from tests.support.ports import free_port
from tests.support.rabbitmq import RabbitMQ

TASKS: Final = 6


@dataclass(frozen=True)
class Case:
    """At which passing the process is killed, what the tasks are like, and how many runs are repeated by it.

    `repeated` is None where the one handler at work may have been cut short, or not.
    """

    passing: int = 3
    repeated: int | None = None
    options: tuple[tuple[str, object], ...] = ()


ONE_PROCESS: Final[Mapping[str, Case]] = {
    "accept.received": Case(),
    "accept.committed": Case(),
    "accept.answering": Case(),
    "commit.writing": Case(passing=7),
    "commit.done": Case(passing=7),
    "publish.sending": Case(),
    "publish.confirmed": Case(),
    "mark.committed": Case(),
    "sweep.taken": Case(passing=1, options=(("delay", 1),)),
    "sweep.handed": Case(passing=2, options=(("delay", 1),)),
    "delivery.received": Case(repeated=0),
    "claim.committed": Case(repeated=0),
    "lease.renewed": Case(passing=1, repeated=1, options=(("seconds", 2.5),)),
    "handler.returned": Case(repeated=1),
    "settle.committed": Case(repeated=0),
    "ack.sent": Case(repeated=0),
}
"""Where tasks are all that it takes to come there."""

AROUND_RABBITMQ: Final[Mapping[str, tuple[str, Case]]] = {
    "accept.committed": ("taskqueue_api", Case(repeated=0)),
    "publish.sending": ("taskqueue_api", Case(repeated=0)),
    "publish.confirmed": ("taskqueue_api", Case(repeated=0)),
    "mark.committed": ("taskqueue_api", Case(repeated=0)),
    "delivery.received": ("taskqueue_worker", Case(repeated=0)),
    "claim.committed": ("taskqueue_worker", Case(repeated=0)),
    "handler.returned": ("taskqueue_worker", Case(repeated=1)),
    "settle.committed": ("taskqueue_worker", Case(repeated=0)),
    "ack.sent": ("taskqueue_worker", Case(repeated=0)),
}
"""Once more with processes of their own: what is killed is one of them."""

OF_THEIR_OWN: Final = {
    "sweep.requeued",
    "sweep.ticked",
    "resume.committed",
    "direct.taken",
    "drain.begun",
    "retry.committed",
    "bury.published",
}
"""Each has a test below."""

OF_MIGRATE: Final = {"migrate.locked", "migrate.statement", "migrate.upgraded", "migrate.committed"}
"""Walked through in `tests/migrate/test_killed_migrate.py`."""

pytestmark = [pytest.mark.timeout(300)]


def test_every_point_is_walked_through() -> None:
    """The points that there are, and no others."""
    assert {*ONE_PROCESS, *AROUND_RABBITMQ, *OF_THEIR_OWN, *OF_MIGRATE} == set(POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("point", ONE_PROCESS)
async def test_one_process_is_killed(bench: Bench, point: str) -> None:
    """API, dispatcher, sweep and worker die at once, and all start again."""
    case = ONE_PROCESS[point]
    service = bench.start("taskqueue_embedded", f"{point}=kill@{case.passing}")
    posting = asyncio.create_task(bench.posted(TASKS, **dict(case.options)))

    assert await service.ended() == KILLED
    bench.start("taskqueue_embedded")

    numbers = await posting
    await bench.all_right(numbers)
    _ran(bench, numbers, case)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("point", AROUND_RABBITMQ)
async def test_one_of_the_processes_around_rabbitmq_is_killed(
    bench: Bench, clean_rabbitmq: RabbitMQ, point: str
) -> None:
    """The other one goes on, and the broker brings again what it must."""
    killed, case = AROUND_RABBITMQ[point]
    upgrade(bench.database)
    bench.settings = {"BROKER_URL": clean_rabbitmq.url}
    armed = f"{point}=kill@{case.passing}"
    services = {
        name: bench.start(name, armed if name == killed else "") for name in ("taskqueue_api", "taskqueue_worker")
    }
    posting = asyncio.create_task(bench.posted(TASKS))

    assert await services[killed].ended() == KILLED
    bench.start(killed)

    numbers = await posting
    await bench.all_right(numbers)
    _ran(bench, numbers, case)


@pytest.mark.slow
async def test_a_sweep_is_killed_that_has_found_lost_messages(bench: Bench) -> None:
    """`sweep.requeued`: the tasks are due, and the next process brings them."""
    service = bench.start("taskqueue_embedded", "sweep.requeued=kill")
    numbers = await bench.posted(TASKS, delay=3600)
    change(bench.database, "UPDATE tasks SET status = 'queued', due_at = NULL, queued_at = accepted_at / 1000 - 60000")

    assert await service.ended() == KILLED
    assert rows(bench.database, "SELECT DISTINCT status FROM tasks") == [("pending",)]
    bench.start("taskqueue_embedded")

    await bench.all_right(numbers)
    assert sorted(bench.runs) == sorted(numbers)


@pytest.mark.slow
async def test_a_sweep_is_killed_that_has_made_a_schedules_task(bench: Bench) -> None:
    """`sweep.ticked`: the task is there, once a tick, and runs."""
    service = bench.start("taskqueue_embedded", "sweep.ticked=kill@2")
    await bench.listening()
    async with http_client(bench.url) as http:
        body = b'{"action": "count", "data": {"number": 4}, "interval": 1}'
        schedule = (await http.ask("POST", "/schedules", body)).json
        assert await service.ended() == KILLED
        made = {task_id for (task_id,) in rows(bench.database, "SELECT id FROM tasks")}
        bench.start("taskqueue_embedded")
        await bench.listening()
        assert (await http.ask("DELETE", f"/schedules/{schedule['id']}")).status == 204
        everything = dict.fromkeys([each["id"] for each in (await http.get("/tasks")).json["tasks"]], 4)
        await bench.all_right(everything)

    assert len(made) == 2
    assert made <= everything.keys()
    assert set(bench.runs) == everything.keys()


@pytest.mark.slow
async def test_a_start_is_killed_that_has_taken_up_what_was_left(bench: Bench) -> None:
    """`resume.committed`: the start after that takes it up again."""
    service = bench.start("taskqueue_embedded", "claim.committed=kill@2")
    posting = asyncio.create_task(bench.posted(TASKS))
    assert await service.ended() == KILLED

    assert await bench.start("taskqueue_embedded", "resume.committed=kill").ended() == KILLED
    bench.start("taskqueue_embedded")

    numbers = await posting
    await bench.all_right(numbers)
    assert sorted(bench.runs) == sorted(numbers)


@pytest.mark.slow
async def test_a_stop_is_killed_that_waits_for_what_is_at_work(bench: Bench) -> None:
    """`drain.begun`: what was at work is attempted again."""
    service = bench.start("taskqueue_embedded", "drain.begun=kill")
    await bench.listening()
    numbers = await bench.posted(3, seconds=1)
    await eventually(lambda: bench.runs, what="the first run")

    service.terminate()
    assert await service.ended() == KILLED
    bench.start("taskqueue_embedded")

    await bench.all_right(numbers)
    assert len(bench.runs) - len(numbers) <= 1


@pytest.mark.slow
async def test_an_api_is_killed_that_has_taken_a_retry_by_hand(bench: Bench) -> None:
    """`retry.committed`: the retry is on disk, and the next process hands it out."""
    service = bench.start("taskqueue_embedded", "retry.committed=kill")
    await bench.listening()
    numbers = await bench.posted(1, delay=3600)
    async with http_client(bench.url) as http:
        [task_id] = numbers
        assert (await http.ask("POST", f"/tasks/{task_id}/cancel")).json["status"] == "cancelled"
        with suppress(ClientError):
            await http.ask("POST", f"/tasks/{task_id}/retry")
    assert await service.ended() == KILLED
    bench.start("taskqueue_embedded")

    await bench.all_right(numbers)
    assert bench.runs == [task_id]


@pytest.mark.slow
async def test_a_worker_is_killed_that_goes_around_the_broker(bench: Bench) -> None:
    """`direct.taken`: what it had taken falls due again, and the next worker takes it."""
    upgrade(bench.database)
    bench.settings = {"BROKER_URL": f"amqp://127.0.0.1:{free_port()}/"}
    bench.start("taskqueue_api")
    numbers = await bench.posted(TASKS)

    assert await bench.start("taskqueue_worker", "direct.taken=kill@2").ended() == KILLED
    bench.start("taskqueue_worker")

    await bench.all_right(numbers)


@pytest.mark.docker
@pytest.mark.slow
async def test_a_worker_is_killed_that_has_buried_a_message(bench: Bench, clean_rabbitmq: RabbitMQ) -> None:
    """`bury.published`: it is buried again, and never lost; the worker does its tasks."""
    upgrade(bench.database)
    bench.settings = {"BROKER_URL": clean_rabbitmq.url}
    bench.start("taskqueue_api")
    worker = bench.start("taskqueue_worker", "bury.published=kill")
    async with open_broker(clean_rabbitmq.url, "another producer") as producer:
        await eventually(lambda: producer.connected, what="its connection")
        await producer.publish([b"{"])

    assert await worker.ended() == KILLED
    bench.start("taskqueue_worker")

    numbers = await bench.posted(TASKS)
    await bench.all_right(numbers)
    async with http_client(bench.url) as http:
        assert (await bench.audited(http))["broker"] == {"ready": 0, "unacknowledged": None, "dead": 2}


@pytest.mark.slow
@pytest.mark.parametrize("point", ["claim.committed", "settle.committed"])
async def test_a_stall_is_waited_out(bench: Bench, point: str) -> None:
    """A process that stands still for a while does its work all the same, once."""
    bench.start("taskqueue_embedded", f"{point}=stall:1@2")

    numbers = await bench.posted(TASKS)

    await bench.all_right(numbers)
    assert sorted(bench.runs) == sorted(numbers)


@pytest.mark.slow
async def test_an_error_at_a_point_costs_one_attempt_and_no_task(bench: Bench) -> None:
    """`fail` after the handler: the execution breaks, its lease runs out, and it is tried again."""
    bench.start("taskqueue_embedded", "handler.returned=fail@2")

    numbers = await bench.posted(3)

    async with http_client(bench.url) as http:
        for task_id in numbers:
            assert (await http.finished(task_id, within=60))["status"] == "completed"
        assert (await bench.audited(http))["tasks"]["completed"] == 3
    assert len(bench.runs) == 4


def _ran(bench: Bench, numbers: Mapping[str, int], case: Case) -> None:
    """Each task has run, and no more often than the kill explains."""
    runs = bench.runs
    assert set(runs) == set(numbers)
    repeated = len(runs) - len(numbers)
    assert repeated <= 1
    if case.repeated is not None:
        assert repeated == case.repeated
