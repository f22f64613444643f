"""What a user's own actions do, whichever way the system runs: the example's, and some that last until called off."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.journeys.client import Client
from tests.journeys.conftest import SYSTEMS
from tests.journeys.systems import System
from tests.support.eventually import eventually

SLOTS = 10
"""So many tasks a worker has at once: two channels, five messages each."""

BOUND = 15
"""Within so many seconds a task that is called off has ended; a second is promised, on a machine that is not busy."""

LASTING = ["last", "last_in_a_thread", "last_in_a_process"]
OWN = {"greet", *LASTING, "longest_repeat", "sum", "uppercase", "which_other_process", "which_process", "wordcount"}


@pytest.fixture(name="system", scope="module", params=SYSTEMS)
def _system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The very system of the other journeys, with another worker."""
    running: System = request.getfixturevalue(request.param)
    with running.own_actions(tmp_path_factory.mktemp("own")):
        yield running


async def test_the_catalogue_names_own_actions_and_what_they_take(client: Client) -> None:
    """With their schemas; data that do not fit are refused at the door, with the field that is wrong."""
    actions = await _catalogue(client)

    assert actions.keys() == OWN
    fields = actions["wordcount"]["schema"]["properties"]
    assert (fields["text"]["type"], fields["most"]["maximum"]) == ("string", 100)
    assert actions["wordcount"]["description"] == "The most frequent words of a text, and how often each occurs."
    for data, field in (({"text": 5}, "data.text: "), ({"text": "a", "most": 0}, "data.most: "), ({}, "data")):
        status, answer = await client.refused("wordcount", data)
        assert (status, answer["error"][: len(field)]) == (400, field)


async def test_each_kind_of_handler_answers(client: Client) -> None:
    """In a thread, on the event loop, and in a process."""
    words = await client.finished(await client.post("wordcount", {"text": "to be or\nnot to be", "most": 2}))
    repeated = await client.finished(await client.post("longest_repeat", {"text": "to be or not to be"}))
    greeting = await client.finished(await client.post("greet", {"name": "you"}))

    assert (words["status"], words["result"]) == ("completed", {"to": 2, "be": 2})
    assert (repeated["status"], repeated["result"]) == ("completed", "to be")
    assert greeting["result"] == f"Hello you, from attempt 1 of task {greeting['id']}"
    assert (words["progress"]["fraction"], greeting["progress"]["message"]) == (1, "thinking of a greeting")


async def test_what_computes_runs_in_another_process_and_keeps_nobody_waiting(client: Client) -> None:
    """While every process of the pool computes, a task on the event loop is done."""
    own = await client.finished(await client.post("which_process", {}))
    other = await client.finished(await client.post("which_other_process", {}))
    assert own["result"] != other["result"]

    async with _lasting(client, "last_in_a_process", SLOTS - 1):
        task = await client.finished(await client.post("which_process", {}))
    assert task["result"] == own["result"]


@pytest.mark.parametrize(("action", "progress"), [
    ("last", {"fraction": 0.25, "message": "a quarter"}),
    ("last_in_a_thread", {"fraction": 0.5, "message": "half"}),
])  # fmt: skip
async def test_progress_is_seen_while_a_task_runs(client: Client, action: str, progress: dict[str, Any]) -> None:
    """By whoever asks for the task."""
    async with _lasting(client, action, 1) as [task_id]:

        async def reported() -> Any:
            task = await client.task(task_id)
            return task if task["progress"] else None

        task = await eventually(reported, within=30, what="the progress")

    assert task["status"] == "running"
    assert {name: task["progress"][name] for name in progress} == progress


@pytest.mark.parametrize("action", LASTING)
async def test_running_tasks_are_called_off_and_make_room(client: Client, action: str) -> None:
    """Within a bounded time each is cancelled, and each of its slots is free for another."""
    async with _lasting(client, action, SLOTS) as task_ids:
        answers = [await client.send("POST", f"/tasks/{task_id}/cancel") for task_id in task_ids]
        async with asyncio.timeout(BOUND):
            tasks = [await client.finished(task_id) for task_id in task_ids]

    assert {(answer.status, answer.body["status"]) for answer in answers} == {(202, "running")}
    assert {(task["status"], task["attempts"], task["result"]) for task in tasks} == {("cancelled", 1, None)}
    assert {task["history"][0]["outcome"] for task in tasks} == {"cancelled"}
    async with _lasting(client, "last", SLOTS):
        pass  # all of them at once: they would not begin, were a slot still taken


async def test_high_tasks_overtake_normal_ones_that_wait(client: Client) -> None:
    """Posted last, they begin before most of what waited already."""
    async with _lasting(client, "last", SLOTS):
        normal = await _posted(client, 40, {"action": "sum"})
        high = await _posted(client, 10, {"action": "sum", "priority": 9})
        for task_id in (*normal, *high):
            await _in_status(client, task_id, "queued")

    began: dict[str, int] = {}
    for task_id in (*normal, *high):
        task = await client.finished(task_id)
        assert task["status"] == "completed"
        began[task_id] = task["history"][0]["started_at"]
    last = max(began[task_id] for task_id in high)
    assert sum(began[task_id] < last for task_id in normal) <= len(normal) // 2


async def _catalogue(client: Client) -> dict[str, Any]:
    """The actions by their names, once the API has heard of the worker."""

    async def listed() -> Any:
        actions = {each["name"]: each for each in (await client.get("/actions"))["actions"]}
        return actions if "wordcount" in actions else None

    found: dict[str, Any] = await eventually(listed, within=30, what="the actions in the catalogue")
    return found


async def _posted(client: Client, count: int, task: dict[str, Any]) -> list[str]:
    answer = await client.send("POST", "/tasks/batch", {"tasks": [task] * count})
    assert answer.status == 202, answer.body
    return [posted["id"] for posted in answer.body["tasks"]]


async def _in_status(client: Client, task_id: str, status: str) -> None:
    async def reached() -> bool:
        return bool((await client.task(task_id))["status"] == status)

    await eventually(reached, within=30, what=f"{status} task {task_id}")


@asynccontextmanager
async def _lasting(client: Client, action: str, count: int) -> AsyncIterator[Sequence[str]]:
    """So many running tasks of an action that lasts; they are called off at the end of the block."""
    task_ids = await _posted(client, count, {"action": action})
    try:
        for task_id in task_ids:
            await _in_status(client, task_id, "running")
        yield task_ids
    finally:
        for task_id in task_ids:
            await client.send("POST", f"/tasks/{task_id}/cancel")
        for task_id in task_ids:
            await client.finished(task_id)
