"""`GET /tasks` and `GET /tasks/{id}`: what a client reads."""

import json
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.support.database import change, write_locked

FIRST_MEMBERS = ["id", "payload", "status", "result", "created_at", "processed_at"]
COMPLETED = (
    "UPDATE tasks SET status = 'completed', result = ?, processed_at = created_at + 2, due_at = NULL WHERE id = ?"
)
FAILED = "UPDATE tasks SET status = 'failed', error = ?, attempt = 5, processed_at = 9, due_at = NULL WHERE id = ?"


async def test_a_new_task_reads_as_it_was_accepted(api: Api) -> None:
    """Every member, in order; times are whole Unix seconds, and what is not yet so is null."""
    task_id = await api.http.submitted("sum", {"numbers": [1]})

    answer = await api.http.get(f"/tasks/{task_id}")

    created = answer.json["created_at"]
    assert answer.status == 200
    assert answer.body == _golden(task_id, created, status="pending", result="null", processed_at="null")
    assert isinstance(created, int)


async def test_a_completed_task_reads_with_its_result_as_json(api: Api) -> None:
    """The result is a JSON value, not text in a string."""
    task_id = await api.http.submitted("sum", {"numbers": [1]})
    change(api.database, COMPLETED, '{"output":1}', task_id)

    answer = await api.http.get(f"/tasks/{task_id}")

    created = answer.json["created_at"]
    assert answer.body == _golden(
        task_id, created, status="completed", result='{"output":1}', processed_at=str(created + 2)
    )


@pytest.mark.parametrize("result", [None, 0, False, "text", [], {"a": [1, None]}, 1.5])
async def test_any_json_value_can_be_a_result(api: Api, result: object) -> None:
    """What a handler returned is what a client reads."""
    task_id = await api.http.submitted("a")
    change(api.database, COMPLETED, json.dumps(result), task_id)

    assert (await api.http.task(task_id))["result"] == result


async def test_a_failed_task_reads_with_its_error(api: Api) -> None:
    """The sentence of the last attempt and the number of attempts stand beside the six members of old."""
    task_id = await api.http.submitted("a")
    change(api.database, FAILED, "ValueError: no", task_id)

    task = await api.http.task(task_id)

    assert list(task)[:6] == FIRST_MEMBERS
    assert (task["status"], task["result"], task["processed_at"]) == ("failed", None, 9)
    assert (task["error"], task["attempts"]) == ("ValueError: no", 5)


UNKNOWN_IDS = [
    *("123e4567-e89b-42d3-a456-426614174000", "1", "no-uuid", "x" * 2_000),
    *("%00", "%ff", "%ED%A0%80", "a%2Fb", "..%2f..", "'%20OR%201=1", "%F0%9F%98%80"),
]


@pytest.mark.parametrize("task_id", UNKNOWN_IDS, ids=lambda task_id: task_id[:20])
async def test_an_unknown_id_is_not_found(api: Api, task_id: str) -> None:
    """404 with a sentence, whether it could be an id or not."""
    await api.http.submitted("a")

    answer = await api.http.get(f"/tasks/{task_id}")

    assert answer.is_error(404, "task not found")


async def test_an_empty_list_is_a_list(api: Api) -> None:
    """No task yet: the same form, with nothing in it."""
    answer = await api.http.get("/tasks")

    assert (answer.status, answer.body) == (200, b'{"tasks":[],"count":0}')


async def test_the_list_is_newest_first(api: Api) -> None:
    """Tasks of one second, too, are in the order in which they were accepted."""
    posted = [await api.http.submitted("a", {"n": number}) for number in range(20)]

    assert [task["id"] for task in await _tasks(api)] == posted[::-1]


async def test_a_task_in_the_list_reads_as_it_does_alone(api: Api) -> None:
    """The list has the same members, in the same order."""
    task_id = await api.http.submitted("a", {"n": 1})

    [listed] = await _tasks(api)

    alone = await api.http.task(task_id)
    assert (listed, list(listed)) == (alone, list(alone))
    assert list(listed)[:6] == FIRST_MEMBERS
    assert list(listed["payload"]) == ["id", "action", "data", "created_at"]


async def test_the_list_shows_a_hundred_tasks_at_most(api: Api) -> None:
    """Of 101 tasks the oldest is left out, and the count is that of the list."""
    posted = [await api.http.submitted("a", {"n": number}) for number in range(101)]

    page = (await api.http.get("/tasks")).json

    assert page["count"] == 100
    assert [task["id"] for task in page["tasks"]] == posted[:0:-1]


async def test_the_list_can_be_narrowed_to_a_status(api: Api) -> None:
    """Tasks of that status alone, newest first."""
    pending, first, second = [await api.http.submitted("a") for _ in range(3)]
    for task_id in (first, second):
        change(api.database, COMPLETED, "1", task_id)

    assert [task["id"] for task in await _tasks(api, "?status=completed")] == [second, first]
    assert [task["id"] for task in await _tasks(api, "?status=pending")] == [pending]
    assert (await api.http.get("/tasks?status=running")).body == b'{"tasks":[],"count":0}'


@pytest.mark.parametrize("status", ["pending", "queued", "running", "completed", "failed", "cancelled"])
async def test_every_status_can_be_asked_for(api: Api, status: str) -> None:
    """The six words of the design."""
    assert (await api.http.get(f"/tasks?status={status}")).status == 200


@pytest.mark.parametrize("status", ["done", "COMPLETED", "completed%20", "%00", "%ED%A0%80", "completed,odd"])
async def test_an_unknown_status_is_refused(api: Api, status: str) -> None:
    """400 with the words that there are."""
    answer = await api.http.get(f"/tasks?status={status}")

    assert answer.is_error(400, "status must be one of pending, queued, running, completed, failed, cancelled")


@pytest.mark.parametrize("query", ["?status=", "?", "?unknown=1"])
async def test_a_query_that_asks_for_nothing_lists_everything(api: Api, query: str) -> None:
    """Parameters that this version does not know are left aside, for later ones to know."""
    task_id = await api.http.submitted("a")

    assert [task["id"] for task in await _tasks(api, query)] == [task_id]


@pytest.mark.parametrize("path", ["/tasks", "/livez", "/readyz"])
async def test_head_answers_as_get_without_a_body(api: Api, path: str) -> None:
    """Monitors may ask by HEAD."""
    got = await api.http.get(path)
    head = await api.http.ask("HEAD", path)

    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["Content-Length"] == str(len(got.body))


async def test_reading_needs_no_write_lock(api: Api) -> None:
    """Clients can read while another process writes."""
    task_id = await api.http.submitted("a")

    with write_locked(api.database):
        assert (await api.http.get(f"/tasks/{task_id}")).status == 200
        assert (await api.http.get("/tasks")).json["count"] == 1


def _golden(task_id: str, created: int, *, status: str, result: str, processed_at: str) -> bytes:
    return (
        f'{{"id":"{task_id}",'
        f'"payload":{{"id":"{task_id}","action":"sum","data":{{"numbers":[1]}},"created_at":{created}}},'
        f'"status":"{status}","result":{result},"created_at":{created},"processed_at":{processed_at},'
        '"attempts":0,"error":null,"action":"sum","priority":0,"tags":[],"run_at":null,"expires_at":null,'
        '"timeout":null,"max_attempts":null,"progress":null,"schedule_id":null,"history":[],'
        '"timings":{"waited":null,"ran":null}}'
    ).encode()


async def _tasks(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.http.get(f"/tasks{query}")
    assert answer.status == 200
    tasks: list[dict[str, Any]] = answer.json["tasks"]
    assert answer.json["count"] == len(tasks)
    return tasks
