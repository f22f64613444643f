"""`POST /tasks/batch`: many tasks in one transaction."""

import json
from typing import Any

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.schema import TaskMessage
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.http import Answer

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_thousand_tasks_are_accepted_in_order(api: Api) -> None:
    """One answer, with an id each in the order of the body, and the list has them in that order, too."""
    answer = await _post(api, [{"action": "a", "data": {"n": number}} for number in range(1000)])

    assert (answer.status, answer.json["count"], answer.headers["Retry-After"]) == (202, 1000, "1")
    assert {task["status"] for task in answer.json["tasks"]} == {"queued"}
    recorded = rows(api.database, "SELECT id, json_extract(payload, '$.data.n') FROM tasks ORDER BY accepted_at")
    assert recorded == [(task["id"], number) for number, task in enumerate(answer.json["tasks"])]


async def test_each_task_of_a_batch_has_its_own_options(api: Api, memory_broker: MemoryBroker) -> None:
    """A delayed one waits, the others are handed over; all have the trace of the request."""
    async with api.dispatching():
        answer = await _post(
            api, [{"action": "later", "delay": 60}, {"action": "now", "priority": 5}], traceparent=TRACE
        )
        received: list[bytes] = []
        async with memory_broker.subscribe(
            lambda delivery: received.append(delivery.body), channels=1, prefetch_count=5
        ):
            await eventually(lambda: received, what="a message")

    assert [task["status"] for task in answer.json["tasks"]] == ["pending", "queued"]
    assert [TaskMessage.decode(body).action for body in received] == ["now"]
    assert rows(api.database, "SELECT DISTINCT traceparent FROM tasks") == [(TRACE,)]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({}, "tasks[3]: action required"),
        (1, "tasks[3]: a task must be a JSON object"),
        ({"action": "a", "data": 1}, "tasks[3]: data must be an object"),
        (
            {"action": "a", "expires_at": "2020-01-01T00:00:00Z"},
            "tasks[3]: expires_at must be later than the time at which the task may start",
        ),
    ],
)
async def test_one_bad_task_is_named_and_none_is_accepted(api: Api, bad: object, sentence: str) -> None:
    """All or none."""
    answer = await _post(api, [*[{"action": "a"}] * 3, bad, {"action": "a"}])

    assert answer.is_error(400, sentence)
    assert rows(api.database, "SELECT id FROM tasks") == []


async def test_a_batch_that_the_database_refuses_leaves_nothing(api: Api) -> None:
    """A fault at the last of its tasks takes back the first."""
    change(
        api.database,
        "CREATE TRIGGER fault BEFORE INSERT ON tasks WHEN new.action = 'bad' BEGIN SELECT raise(FAIL, 'no'); END",
    )

    answer = await _post(api, [{"action": "a"}] * 9 + [{"action": "bad"}])

    assert answer.is_error(500, "failed to queue task")
    for table in ("tasks", "changes"):
        assert rows(api.database, f"SELECT * FROM {table}") == []  # noqa: S608 - of our own making


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"{}", "tasks must be a list"),
        (b'{"tasks": {}}', "tasks must be a list"),
        (b'{"tasks": []}', "tasks must have 1 to 1000 members"),
        (json.dumps({"tasks": [{"action": "a"}] * 1001}).encode(), "tasks must have 1 to 1000 members"),
    ],
    ids=["no JSON", "a list", "empty", "no list", "none", "too many"],
)
async def test_what_is_no_batch_is_refused(api: Api, body: bytes, sentence: str) -> None:
    """400 with a sentence."""
    assert (await api.http.ask("POST", "/tasks/batch", body)).is_error(400, sentence)
    assert rows(api.database, "SELECT id FROM tasks") == []


async def test_a_batch_has_no_idempotency_key(api: Api) -> None:
    """400 rather than a promise that is not kept."""
    answer = await _post(api, [{"action": "a"}], Idempotency_Key="k")

    assert answer.is_error(400, "Idempotency-Key is for single tasks: a batch cannot have one")


async def test_a_batch_has_the_size_of_any_body(api: Api) -> None:
    """1 MiB, and not a byte more."""
    answer = await _post(api, [{"action": "a", "data": {"text": "x" * 1024 * 1024}}])

    assert answer.is_error(413, "the body must be at most 1 MiB")


async def _post(api: Api, tasks: list[Any], **headers: str) -> Answer:
    return await api.http.ask("POST", "/tasks/batch", json.dumps({"tasks": tasks}).encode(), **headers)
