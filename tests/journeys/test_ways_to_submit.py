"""What a user may ask for with a task, whichever way the task queue runs."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.journeys.systems import System
from tests.support.http import Http, http_client


@pytest.fixture
async def http(system: System) -> AsyncIterator[Http]:
    """A client that sees headers, too."""
    async with http_client(system.url) as connected:
        yield connected


async def test_a_delayed_task_begins_at_its_time(http: Http) -> None:
    """It is `pending` until then, and its attempt tells when it began and how long it took."""
    answer = await http.post({"action": "uppercase", "data": {"text": "a"}, "delay": 2, "tags": ["later"]})
    waiting = await http.task(answer.json["id"])

    task = await http.finished(answer.json["id"])

    assert (answer.status, answer.json["status"], waiting["status"]) == (202, "pending", "pending")
    assert (task["status"], task["result"], task["tags"]) == ("completed", {"output": "A"}, ["later"])
    [attempt] = task["history"]
    assert attempt["started_at"] >= task["run_at"] * 1000
    assert (attempt["outcome"], attempt["error"]) == ("completed", None)
    assert task["timings"]["ran"] == attempt["ended_at"] - attempt["started_at"]


async def test_a_request_sent_twice_is_one_task(http: Http) -> None:
    """With a key, and the second answer says so."""
    body = b'{"action": "sum", "data": {"numbers": [1, 2]}}'
    first = await http.post(body, Idempotency_Key="journey-17")
    await http.finished(first.json["id"])

    second = await http.post(body, Idempotency_Key="journey-17")

    assert (second.json, second.headers["Idempotent-Replayed"]) == (
        {"id": first.json["id"], "status": "completed"},
        "true",
    )


async def test_a_batch_is_completed_and_found_by_its_tag_page_by_page(http: Http) -> None:
    """What was posted at once is performed, and stands in the list, newest first, behind its links."""
    batch = [{"action": "sum", "data": {"numbers": [number, 1]}, "tags": ["batch-17"]} for number in range(25)]
    answer = await http.ask("POST", "/tasks/batch", json.dumps({"tasks": batch}).encode())
    ids = [task["id"] for task in answer.json["tasks"]]
    for number, task_id in enumerate(ids):
        assert (await http.finished(task_id))["result"] == {"output": number + 1}

    found: list[str] = []
    path: str | None = "/tasks?tag=batch-17&status=completed&action=sum&limit=10"
    while path:
        page = await http.get(path)
        found += [task["id"] for task in page.json["tasks"]]
        link = page.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else None

    assert found == ids[::-1]
