"""What a user of the task queue sees, whichever way it runs."""

import asyncio
from typing import Any

import pytest

from tests.journeys.client import Client
from tests.journeys.systems import System
from tests.support.eventually import eventually

THOUSAND = 1_000
POSTING_AT_ONCE = 20
TOO_MUCH = {"numbers": [1e308, 1e308]}
"""Their sum is infinite, which JSON cannot say."""


@pytest.mark.parametrize(
    ("action", "data", "output"),
    [
        ("uppercase", {"text": "hello, wörld"}, "HELLO, WÖRLD"),
        ("uppercase", {}, ""),
        ("sum", {"numbers": [1, 2.5, -3]}, 0.5),
        ("sum", {}, 0),
        ("anything else", {"whatever": [None]}, "processed"),
    ],
)
async def test_a_posted_task_is_completed_with_its_result(
    client: Client, action: str, data: dict[str, Any], output: object
) -> None:
    """POST a task, and GET its result."""
    task_id = await client.post(action, data)

    task = await client.finished(task_id)
    assert task["status"] == "completed"
    assert task["result"] == {"output": output}
    assert task["payload"] == {
        "id": task_id,
        "action": action,
        "data": data,
        "created_at": task["created_at"],
    }
    assert task["processed_at"] >= task["created_at"]


async def test_data_that_an_action_cannot_take_are_refused_with_a_sentence(client: Client) -> None:
    """Once the API has heard of the worker, and what its actions take; then the task is not accepted."""

    async def listed() -> bool:
        return "sum" in [each["name"] for each in (await client.get("/actions"))["actions"]]

    await eventually(listed, within=30, what="the action in the catalogue")

    status, answer = await client.refused("sum", {"numbers": ["one"]})
    assert status == 400
    assert answer["error"].startswith("data.numbers.0: ")


async def test_live_workers_are_listed(client: Client) -> None:
    """With their actions and what they are at."""
    workers = (await client.get("/workers"))["workers"]

    assert workers
    for worker in workers:
        assert worker["actions"] == ["sum", "uppercase"]
        assert worker["started_at"] <= worker["seen_at"]
        assert isinstance(worker["running"], list)


async def test_a_result_that_is_no_json_ends_the_task_at_once_with_a_sentence(client: Client) -> None:
    """A task that can never succeed is not tried again."""
    task_id = await client.post("sum", TOO_MUCH)

    task = await client.finished(task_id)
    assert (task["status"], task["attempts"], task["result"]) == ("failed", 1, None)
    assert task["error"].startswith("the handler's result is not JSON")


async def test_the_list_shows_the_newest_tasks_first(client: Client) -> None:
    """GET /tasks answers what was posted last, at the top."""
    posted = [await client.post("sum", {"numbers": [number]}) for number in range(5)]

    listed = (await client.get("/tasks"))["tasks"]
    assert [task["id"] for task in listed[:5]] == posted[::-1]


async def test_the_list_can_be_narrowed_to_a_status(client: Client) -> None:
    """GET /tasks?status= answers tasks of that status alone."""
    await client.finished(await client.post("sum", {}))
    await client.finished(await client.post("sum", TOO_MUCH))

    for status in ("completed", "failed"):
        page = await client.get(f"/tasks?status={status}")
        assert page["count"] == len(page["tasks"]) > 0
        assert {task["status"] for task in page["tasks"]} == {status}


async def test_every_task_is_still_there_after_a_restart(system: System, client: Client) -> None:
    """An orderly stop and a new start keep what is finished, and finish what is not."""
    done = await client.post("uppercase", {"text": "before"})
    await client.finished(done)
    waiting = [await client.post("sum", {"numbers": [number, 1]}) for number in range(50)]

    await asyncio.to_thread(system.restart)

    assert (await client.task(done))["result"] == {"output": "BEFORE"}
    for number, task_id in enumerate(waiting):
        task = await client.finished(task_id, within=60)
        assert task["result"] == {"output": number + 1}


async def test_of_a_thousand_tasks_none_is_lost_while_every_part_is_killed_and_revived(
    system: System, client: Client
) -> None:
    """What was answered 202 is completed, once and rightly, though each part dies by SIGKILL under load."""
    posting_at_once = asyncio.Semaphore(POSTING_AT_ONCE)

    async def post(number: int) -> str:
        async with posting_at_once:
            await asyncio.sleep(0.2)  # so that the posts go on while the parts die
            return await client.post_with_patience("sum", {"numbers": [number, 1]}, within=240)

    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(post(number)) for number in range(THOUSAND)]
        for part in system.parts:
            await asyncio.sleep(2)
            await asyncio.to_thread(system.kill, part)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(system.revive, part)

    for number, posted in enumerate(posts):
        task = await client.finished(posted.result(), within=120)
        assert (task["status"], task["result"]) == ("completed", {"output": number + 1})
