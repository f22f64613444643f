"""What a client may ask of a task beyond posting and reading it, whichever way the system runs."""

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

from tests.journeys.client import Client
from tests.support.eventually import eventually

DELAY_SECONDS = 3
LATER = {"action": "uppercase", "data": {"text": "later"}, "delay": 3600}


async def test_a_delayed_task_waits_for_its_time(client: Client) -> None:
    """It says so when it is asked, is started no earlier, and is completed like any other."""
    asked_at = time.time()
    posted = await client.send("POST", "/tasks", {**LATER, "delay": DELAY_SECONDS})
    assert (posted.status, posted.body["status"]) == (202, "pending")
    assert posted.headers["Location"] == f"/tasks/{posted.body['id']}"

    why = await client.get(f"/tasks/{posted.body['id']}/why")
    assert why["code"] == "waiting_for_time"

    task = await client.finished(posted.body["id"])
    assert task["result"] == {"output": "LATER"}
    assert task["history"][0]["started_at"] / 1000 >= asked_at + DELAY_SECONDS - 0.1


async def test_a_client_waits_for_its_result(client: Client) -> None:
    """One request, one answer: the finished task."""
    answer = await client.send(
        "POST", "/tasks", {"action": "sum", "data": {"numbers": [1, 2]}}, headers={"Prefer": "wait=20"}
    )

    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert (answer.body["status"], answer.body["result"]) == ("completed", {"output": 3})


async def test_a_waiter_hears_of_a_later_end(client: Client) -> None:
    """A long poll of a task that is not finished when it begins."""
    posted = await client.send("POST", "/tasks", {**LATER, "delay": 1})

    answer = await client.send("GET", f"/tasks/{posted.body['id']}?wait=20")

    assert (answer.status, answer.body["status"]) == (200, "completed")
    unchanged = await client.send(
        "GET", f"/tasks/{posted.body['id']}", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert unchanged.status == 304


async def test_one_key_makes_one_task(client: Client) -> None:
    """However often and at once it is posted; another body under the same key is refused."""
    key = {"Idempotency-Key": str(uuid4())}
    task = {"action": "sum", "data": {"numbers": [7]}}

    answers = await asyncio.gather(*(client.send("POST", "/tasks", task, headers=key) for _ in range(10)))

    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert (await client.send("POST", "/tasks", {**task, "data": {}}, headers=key)).status == 422


async def test_a_batch_is_accepted_whole_and_in_order(client: Client) -> None:
    """Each of its tasks is completed; one bad task, and none is accepted."""
    tag = f"batch-{uuid4()}"
    batch = [{"action": "sum", "data": {"numbers": [number]}, "tags": [tag]} for number in range(50)]

    answer = await client.send("POST", "/tasks/batch", {"tasks": batch})

    assert (answer.status, answer.body["count"]) == (202, 50)
    for number, posted in enumerate(answer.body["tasks"]):
        assert (await client.finished(posted["id"]))["result"] == {"output": number}
    refused = await client.send("POST", "/tasks/batch", {"tasks": [*batch, {"data": {}}]})
    assert (refused.status, refused.body) == (400, {"error": "tasks[50]: action required"})
    assert len(await _all_of(client, f"/tasks?tag={tag}&limit=20")) == 50


async def test_a_task_is_cancelled_retried_and_deleted(client: Client) -> None:
    """By hand, each when it may be."""
    path = (await client.send("POST", "/tasks", LATER)).headers["Location"]

    assert (await client.send("DELETE", path)).status == 409
    cancelled = await client.send("POST", f"{path}/cancel")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert (await client.get(path))["status"] == "cancelled"

    assert (await client.send("POST", f"{path}/retry")).status == 202
    retried = await client.finished(path.rpartition("/")[2])
    assert (retried["status"], retried["result"]) == ("completed", {"output": "LATER"})
    assert (await client.send("POST", f"{path}/cancel")).status == 409
    assert (await client.send("POST", f"{path}/retry")).status == 409

    assert (await client.send("DELETE", path)).status == 204
    assert (await client.send("GET", path)).status == 404


async def test_many_tasks_are_cancelled_by_what_they_are(client: Client) -> None:
    """The others stay."""
    tag = f"bulk-{uuid4()}"
    for _ in range(5):
        await client.send("POST", "/tasks", {**LATER, "tags": [tag]})
    other = (await client.send("POST", "/tasks", {**LATER, "tags": ["other"]})).headers["Location"]

    answer = await client.send("POST", "/tasks/cancel", {"tag": tag})

    assert answer.body["matched"] == 5
    assert {task["status"] for task in await _all_of(client, f"/tasks?tag={tag}")} == {"cancelled"}
    assert (await client.get(other))["status"] == "pending"
    await client.send("POST", f"{other}/cancel")


async def test_a_task_tells_of_itself_as_it_goes(client: Client) -> None:
    """Its event stream ends with its end; whoever comes back later goes on where they were."""
    posted = await client.send("POST", "/tasks", {"action": "sum", "data": {"numbers": [1]}, "delay": 1})
    path = f"/tasks/{posted.body['id']}/events"

    told = await client.events(path)

    assert told[0]["data"]["status"] == "pending"
    assert told[-1]["data"]["status"] == "completed"
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(set(ids))
    again = await client.events(path, headers={"Last-Event-ID": told[0]["id"]})
    assert again[-1]["data"]["status"] == "completed"


async def test_an_expired_task_never_starts(client: Client) -> None:
    """It is cancelled in the place of its first attempt."""
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    task = {"action": "sum", "data": {"numbers": [1]}, "delay": 3, "expires_at": soon}
    posted = await client.send("POST", "/tasks", task)
    assert posted.status == 202

    refused = await client.send("POST", "/tasks", {**task, "delay": 10})
    assert (refused.status, "expires_at" in refused.body["error"]) == (400, True)

    ended = await client.finished(posted.body["id"])
    assert ended["status"] in ("completed", "cancelled")  # a sweep may be a second late
    assert (ended["status"] == "cancelled") == (ended["history"] == [])


async def test_a_schedule_makes_tasks_until_it_is_deleted(client: Client) -> None:
    """Each says which schedule it is of."""
    tag = f"tick-{uuid4()}"
    schedule = {"action": "sum", "data": {"numbers": [1, 1]}, "interval": 1, "tags": [tag]}
    created = await client.send("POST", "/schedules", schedule)
    assert created.status == 201
    path, listing = created.headers["Location"], f"/tasks?tag={tag}&status=completed"

    async def two() -> bool:
        return len((await client.get(listing))["tasks"]) >= 2

    await eventually(two, within=60, what="two ticks")

    assert (await client.send("DELETE", path)).status == 204
    made = (await client.get(listing))["tasks"]
    assert {task["result"]["output"] for task in made} == {2}
    assert (await client.get(f"/tasks/{made[0]['id']}"))["schedule_id"] == created.body["id"]


async def test_why_tells_of_the_end(client: Client) -> None:
    """One sentence, and a code."""
    task_id = await client.post("sum", {"numbers": [1]})
    await client.finished(task_id)

    why = await client.get(f"/tasks/{task_id}/why")

    assert (why["status"], why["code"]) == ("completed", "completed")
    assert json.dumps(why["reason"])


async def _all_of(client: Client, path: str) -> list[Any]:
    """Every task of a list, page by page."""
    found: list[Any] = []
    page: str | None = path
    while page is not None:
        answer = await client.send("GET", page)
        found += answer.body["tasks"]
        page = answer.links.get("next")
    return found
