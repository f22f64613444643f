"""`GET /tasks/{id}/why`: one sentence and a code on why a task is where it is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.store import standing
from tests.api.conftest import Api
from tests.support.database import change

AT = 1_764_000_000_000
AT_TEXT = "2025-11-24T16:00:00Z"


async def test_a_task_that_waits_for_its_time_says_until_when(api: Api) -> None:
    """Whatever else there is to wait for."""
    posted = await api.http.post({"action": "a", "run_at": "2100-01-01T01:00:00+01:00"})

    assert await _why(api, posted.json["id"]) == ("waiting_for_time", "it is not to start before 2100-01-01T00:00:00Z")


async def test_a_task_that_waits_to_be_retried_says_what_went_wrong(api: Api) -> None:
    """Which attempt of how many, its error, and when the next one is due."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET attempt = 3, forgiven = 1, error = 'ValueError: no', due_at = ?", 4 * 10**12)

    code, sentence = await _why(api, task_id)

    assert code == "waiting_to_retry"
    assert sentence == "attempt 2 of 5 failed: ValueError: no; next at 2096-10-02T07:06:40Z"


@pytest.mark.parametrize("status", ["pending", "queued"])
async def test_a_broker_that_is_away_is_named_with_since_when(
    api: Api, memory_broker: MemoryBroker, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is safe all the same."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = ?", status)
    monkeypatch.setattr(memory_broker, "connected", False)
    monkeypatch.setattr(memory_broker, "away_since", AT)

    expected = f"RabbitMQ is unreachable since {AT_TEXT}; the task is kept on disk"
    assert await _why(api, task_id) == ("broker_away", expected)


async def test_where_no_worker_is_alive_it_says_so(api: Api) -> None:
    """One that was not seen for 15 s does not count."""
    task_id = await api.http.submitted("a")
    assert await _why(api, task_id) == ("no_worker", "no worker is alive")

    _worker(api, "gone", "a", seen_at=system_clock() - 16_000)

    assert await _why(api, task_id) == ("no_worker", "no worker is alive")


async def test_an_action_that_no_live_worker_has_is_named(api: Api) -> None:
    """A worker that has it and is gone does not count; and others take the task all the same."""
    task_id = await api.http.submitted("resize")
    _worker(api, "gone", "resize", seen_at=system_clock() - 16_000)
    _worker(api, "alive", "other", "resize.more")

    code, sentence = await _why(api, task_id)

    assert code == "no_action"
    assert sentence == ("no live worker has action resize; another one takes it, and answers as for an unknown action")


async def test_a_task_that_is_not_with_the_broker_yet_is_on_its_way(api: Api) -> None:
    """For an instant, as a rule."""
    task_id = await api.http.submitted("a")
    _worker(api, "alive", "a")

    assert await _why(api, task_id) == ("dispatching", "it is about to be handed to the queue")


async def test_a_queued_task_says_how_many_are_before_it(api: Api) -> None:
    """Those of its priority whose messages are older, all of a higher one, and what is being worked on."""
    ids = [await api.http.submitted("a") for _ in range(7)]
    _worker(api, "alive", "a")
    for number, task_id in enumerate(ids):
        change(api.database, "UPDATE tasks SET status = 'queued', queued_at = ? WHERE id = ?", AT + number, task_id)
    change(api.database, "UPDATE tasks SET status = 'running', queued_at = NULL WHERE id IN (?, ?)", *ids[:2])
    change(api.database, "UPDATE tasks SET priority = 5 WHERE id = ?", ids[6])

    assert await _why(api, ids[4]) == ("queued", "3 ahead of it, 2 being worked on")
    assert await _why(api, ids[6]) == ("queued", "0 ahead of it, 2 being worked on")


async def test_counting_goes_no_further_than_it_is_worth(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer must not cost the more the longer the queue is."""
    monkeypatch.setattr(standing, "COUNTED", 9_999)
    statement = """
        INSERT INTO tasks (id, payload, status, created_at, accepted_at, queued_at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10100)
        SELECT 'n' || i, '{}', 'queued', 1, i, i FROM n
    """
    change(api.database, statement)
    change(api.database, "UPDATE tasks SET action = 'a' WHERE id = 'n10050'")
    _worker(api, "alive", "a")

    assert await _why(api, "n10050") == ("queued", "10,000 ahead of it, 0 being worked on")
    monkeypatch.undo()
    assert await _why(api, "n10050") == ("queued", "more than 10,000 ahead of it, 0 being worked on")


async def test_a_running_task_says_who_is_at_it(api: Api) -> None:
    """Since when, and in which attempt."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = 'running', attempt = 2, worker = 'w', started_at = ?", AT)

    assert await _why(api, task_id) == ("running", f"w is at it since {AT_TEXT}, attempt 2 of 5")


async def test_a_task_that_is_being_cancelled_says_so(api: Api) -> None:
    """Until its worker has stopped."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = 'running', worker = 'w', cancel_requested_at = ?", AT)

    assert await _why(api, task_id) == ("being_cancelled", f"w has been asked to stop it at {AT_TEXT}")


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        ("completed", None, f"it was completed at {AT_TEXT}"),
        ("failed", "no", f"it failed at {AT_TEXT} in attempt 3 of 3: no"),
        ("cancelled", "no", f"it was cancelled at {AT_TEXT}"),
        ("cancelled", "expired before it started", f"it was cancelled at {AT_TEXT}: expired before it started"),
    ],
)
async def test_a_finished_task_says_how_it_ended(api: Api, status: str, error: str | None, sentence: str) -> None:
    """The code is its status."""
    task_id = await api.http.submitted("a")
    statement = "UPDATE tasks SET status = ?, error = ?, attempt = 3, max_attempts = 3, ended_at = ?, due_at = NULL"
    change(api.database, statement, status, error, AT)

    assert await _why(api, task_id) == (status, sentence)


async def test_why_names_the_task_and_its_status(api: Api) -> None:
    """Four members; an unknown task is not found."""
    task_id = await api.http.submitted("a")

    answer = await api.http.get(f"/tasks/{task_id}/why")

    assert answer.json == {"id": task_id, "status": "pending", "code": "no_worker", "reason": "no worker is alive"}
    assert (await api.http.get("/tasks/unknown/why")).is_error(404, "task not found")


async def _why(api: Api, task_id: str) -> tuple[str, str]:
    answer = await api.http.get(f"/tasks/{task_id}/why")
    assert answer.status == 200
    return answer.json["code"], answer.json["reason"]


def _worker(api: Api, name: str, *actions: str, seen_at: int | None = None) -> None:
    offered: dict[str, Any] = {action: {"description": "", "schema": {}} for action in actions}
    values = (name, 1, seen_at or system_clock(), 10, json.dumps(offered))
    change(api.database, "INSERT INTO workers VALUES (?, ?, ?, ?, ?)", *values)


def test_the_text_of_the_instant_is_the_right_one() -> None:
    """So that the tests above compare with the truth."""
    assert datetime.fromisoformat(AT_TEXT) == datetime.fromtimestamp(AT / 1000, UTC)
