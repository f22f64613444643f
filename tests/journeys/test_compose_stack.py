"""What is true of the compose stack alone: its order, its consumers, its scale, its crashes."""

import asyncio
import json

import pytest

from tests.journeys.client import Client, client_of
from tests.journeys.systems import ComposeSystem
from tests.support.eventually import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def test_migrate_has_done_its_work_and_exited_0(compose_system: ComposeSystem) -> None:
    """The job container is finished, not running and not restarted."""
    [migrate] = compose_system.containers("migrate")

    assert (migrate["State"]["Status"], migrate["State"]["ExitCode"]) == ("exited", 0)
    assert migrate["RestartCount"] == 0


async def test_the_worker_consumes_on_two_channels_with_a_prefetch_of_five_each(compose_system: ComposeSystem) -> None:
    """RabbitMQ itself says so."""

    def consumers() -> list[tuple[str, int]]:
        listing = compose_system.compose(
            *("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--formatter", "json"),
            *("list_consumers", "queue_name", "channel_pid", "prefetch_count"),
        )
        return [(row["queue_name"], row["prefetch_count"]) for row in json.loads(listing)]

    await eventually(lambda: consumers() == [("tasks", 5), ("tasks", 5)], within=60, what="two consumers")


def test_no_container_runs_as_root_or_may_become_it(compose_system: ComposeSystem) -> None:
    """The engine itself says so of every container of ours."""
    for service in ("api", "worker", "migrate"):
        [container] = compose_system.containers(service)

        assert container["Config"]["User"] == "10001:10001"
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in container["HostConfig"]["SecurityOpt"]


@pytest.mark.parametrize(("image", "foreign"), [
    ("taskqueue-api", ("taskqueue_worker", "taskqueue_migrate", "alembic")),
    ("taskqueue-worker", ("taskqueue_api", "taskqueue_migrate", "alembic", "aiohttp")),
    ("taskqueue-migrate", ("taskqueue_api", "taskqueue_worker", "aio_pika", "aiohttp")),
])  # fmt: skip
def test_an_image_holds_no_other_services_code(
    compose_system: ComposeSystem, image: str, foreign: tuple[str, ...]
) -> None:
    """Each service is deployed on its own: what it does not need is not there."""
    service = image.removeprefix("taskqueue-")
    script = f"import importlib.util as u, sys; sys.exit([m for m in {foreign!r} if u.find_spec(m)] or 0)"

    compose_system.compose("run", "--rm", "--no-deps", "-T", service, "python", "-c", script)


async def test_a_worker_killed_in_the_middle_of_tasks_loses_none(compose_system: ComposeSystem) -> None:
    """Kill -9 of the only worker, with tasks in its hands: all of them are completed when it is back."""
    async with client_of(compose_system.url) as client:
        posted = [await client.post("sum", {"numbers": [number, 1]}) for number in range(200)]
        await eventually(lambda: _one_is_running(client), within=30, what="a running task")

        await asyncio.to_thread(compose_system.kill, "worker")
        cut_short = [task["id"] for task in (await client.get("/tasks?status=running"))["tasks"]]
        await asyncio.to_thread(compose_system.revive, "worker")

        tasks = [await client.finished(task_id, within=90) for task_id in posted]
    assert [task["result"] for task in tasks] == [{"output": number + 1} for number in range(200)]
    assert cut_short
    for task in tasks:
        if task["id"] in cut_short:  # forgiven, since a neighbour may have been the cause; but told
            assert task["attempts"] == 1
            assert [attempt["outcome"] for attempt in task["history"]] == ["lost", "completed"]


async def test_three_workers_and_two_apis_share_the_work_and_the_file(compose_system: ComposeSystem) -> None:
    """--scale works for both, and nothing is lost or done twice by it."""
    first, second = compose_system.scale(workers=3, apis=2)
    try:
        async with client_of(first) as one, client_of(second) as other:
            clients: list[Client] = [one, other]
            posted = [await clients[number % 2].post("sum", {"numbers": [number, 1]}) for number in range(300)]
            for number, task_id in enumerate(posted):
                task = await clients[(number + 1) % 2].finished(task_id, within=60)
                assert (task["result"], task["attempts"]) == ({"output": number + 1}, 1)
    finally:
        compose_system.scale(workers=1, apis=1)


async def test_tasks_are_done_while_rabbitmq_is_stopped(compose_system: ComposeSystem) -> None:
    """Posted and finished without it; when it is back, what is posted goes through it, and nothing has run twice.

    So is the task of a schedule that is run by hand.
    """
    async with client_of(compose_system.url) as client:
        yearly = {"action": "sum", "data": {"numbers": [1, 1]}, "cron": "0 0 1 1 *"}
        schedule = (await client.send("POST", "/schedules", yearly)).headers["Location"]
        await asyncio.to_thread(compose_system.compose, "stop", "rabbitmq")
        try:
            ran = await client.send("POST", f"{schedule}/run")
            assert ran.status == 202
            by_hand = await client.finished(ran.body["id"], within=60)
            posted = [await client.post("sum", {"numbers": [number, 1]}) for number in range(50)]
            done = [await client.finished(task_id, within=60) for task_id in posted]
        finally:
            await asyncio.to_thread(compose_system.revive, "rabbitmq")
        later = [await client.post("sum", {"numbers": [number, 1]}) for number in range(50)]
        done += [await client.finished(task_id, within=60) for task_id in later]
        again = [await client.task(task["id"]) for task in done]
        await client.send("DELETE", schedule)

    assert (by_hand["status"], by_hand["result"], by_hand["attempts"]) == ("completed", {"output": 2}, 1)
    assert [task["result"] for task in done] == [{"output": number + 1} for number in (*range(50), *range(50))]
    assert {task["attempts"] for task in done} == {1}
    assert again == done


async def _one_is_running(client: Client) -> bool:
    page = await client.get("/tasks?status=running")
    return bool(page["count"])
