"""`POST /tasks/cancel` and `POST /tasks/retry`: orders for all tasks that a filter matches, and for no other."""

import json
from typing import Any

import pytest

from taskqueue import events
from taskqueue.errors import StoreUnavailable
from taskqueue.store import pages
from taskqueue.store.pace import Pace
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.http import Answer

STATUSES = ("pending", "queued", "running", "completed", "failed", "cancelled")


async def test_all_that_match_are_cancelled(api: Api) -> None:
    """Every filter narrows it, alone and with others; the rest stays as it was."""
    wanted = [await _posted(api, "resize", "x"), await _posted(api, "resize", "x", "y")]
    others = [await _posted(api, "resize", "y"), await _posted(api, "other", "x"), await _posted(api, "other")]

    answer = await _order(api, "cancel", {"action": "resize", "tag": "x"})

    assert (answer.status, answer.json) == (200, {"matched": 2})
    assert {task_id: _status(api, task_id) for task_id in wanted} == dict.fromkeys(wanted, "cancelled")
    assert {task_id: _status(api, task_id) for task_id in others} == dict.fromkeys(others, "pending")


async def test_running_tasks_that_match_are_asked_to_stop(api: Api) -> None:
    """202: something is still to happen. What is finished does not count."""
    by_status = await _one_of_each(api)

    answer = await _order(api, "cancel", {"tag": "x"})

    assert (answer.status, answer.json) == (202, {"matched": 3})
    assert [_status(api, by_status[status]) for status in ("pending", "queued")] == ["cancelled"] * 2
    assert await api.collaborators.store.called_off("w") == [(by_status["running"], 1)]
    assert [_status(api, by_status[status]) for status in ("completed", "failed")] == ["completed", "failed"]


async def test_all_that_match_are_retried(api: Api) -> None:
    """Of failed and cancelled ones; they are due at once."""
    by_status = await _one_of_each(api)

    answer = await _order(api, "retry", {"tag": "x"})

    assert (answer.status, answer.json) == (200, {"matched": 2})
    assert [_status(api, by_status[status]) for status in ("failed", "cancelled")] == ["pending"] * 2
    assert [_status(api, by_status[status]) for status in ("queued", "completed")] == ["queued", "completed"]
    taken = await api.collaborators.store.take_due(8_000, 5, limit=10)
    assert {ready.payload.id for ready in taken.ready} == {by_status["failed"], by_status["cancelled"]}


@pytest.mark.parametrize(
    ("order", "status", "changed"),
    [
        ("cancel", "pending", ["pending"]),
        ("cancel", ["pending", "queued"], ["pending", "queued"]),
        ("cancel", "pending,completed", ["pending"]),
        ("cancel", "failed", []),
        ("retry", "failed", ["failed"]),
        ("retry", ["running", "completed"], []),
    ],
)
async def test_a_status_narrows_an_order(api: Api, order: str, status: object, changed: list[str]) -> None:
    """To those that have it and can be ordered so."""
    by_status = await _one_of_each(api)

    answer = await _order(api, order, {"status": status})

    assert (answer.status, answer.json) == (200, {"matched": len(changed)})
    assert [each for each in STATUSES if _status(api, by_status[each]) != each] == changed


async def test_a_span_of_time_narrows_an_order(api: Api) -> None:
    """By when a task was accepted: from `since` on, until before `until`; in seconds, or as a text."""
    ids = [await _posted(api, "a") for _ in range(4)]
    for number, task_id in enumerate(ids):
        change(api.database, "UPDATE tasks SET accepted_at = ? WHERE id = ?", (1_764_000_000 + number) * 10**6, task_id)

    answer = await _order(api, "cancel", {"since": "2025-11-24T16:00:01Z", "until": 1_764_000_003})

    assert answer.json == {"matched": 2}
    assert [_status(api, task_id) for task_id in ids] == ["pending", "cancelled", "cancelled", "pending"]


@pytest.mark.parametrize(
    ("order", "store_method", "status"), [("cancel", "cancel_all", "queued"), ("retry", "retry_all", "failed")]
)
async def test_an_order_that_is_cut_off_tells_how_far_it_came(
    api: Api, monkeypatch: pytest.MonkeyPatch, order: str, store_method: str, status: str
) -> None:
    """500 where the database fails in the middle of it: so many are done, and the rest can be ordered again."""
    for _ in range(5):
        await _posted(api, "a", "x")
    change(api.database, "UPDATE tasks SET status = ?", status)
    carry_out, chunks = getattr(api.collaborators.store, store_method), 0

    async def fail_the_third_time(orders: Any) -> Any:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            raise StoreUnavailable
        return await carry_out(orders)

    monkeypatch.setattr(Pace, "most", 1)
    monkeypatch.setattr(Pace, "least", 1)
    monkeypatch.setattr(api.collaborators.store, store_method, fail_the_third_time)

    answer = await _order(api, order, {"tag": "x"})

    assert (answer.status, answer.json) == (500, {"error": "database unavailable", "matched": 2})
    assert [row[0] for row in rows(api.database, "SELECT status FROM tasks")].count(status) == 3
    assert (await _order(api, order, {"tag": "x"})).json == {"matched": 3}
    assert len(api.reports(events.REQUEST_FAILED)) == 1


async def test_an_order_ends_with_the_api(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its next chunk: a stop does not wait for a million tasks, and does not cut the connection either."""
    for _ in range(3):
        await _posted(api, "a", "x")
    cancel_all = api.collaborators.store.cancel_all

    async def stop_meanwhile(orders: Any) -> Any:
        api.collaborators.drain()
        return await cancel_all(orders)

    monkeypatch.setattr(Pace, "most", 1)
    monkeypatch.setattr(Pace, "least", 1)
    monkeypatch.setattr(api.collaborators.store, "cancel_all", stop_meanwhile)

    answer = await _order(api, "cancel", {"tag": "x"})

    expected = {"error": "the API is stopping: give the order again for the rest", "matched": 1}
    assert (answer.status, answer.json, answer.headers["Retry-After"]) == (503, expected, "1")


async def test_an_order_for_many_is_carried_out_in_chunks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many match, and however many candidates do not: no commit changes more rows than the pace allows."""
    monkeypatch.setattr(Pace, "most", 20)
    monkeypatch.setattr(pages, "CANDIDATES", 30)
    ids = [await _posted(api, "a", "x") for _ in range(150)]
    change(api.database, "UPDATE tasks SET action = 'other' WHERE id IN (SELECT id FROM tasks LIMIT 50)")
    chunks: list[int] = []
    cancel_all = api.collaborators.store.cancel_all

    async def noted(orders: Any) -> Any:
        chunks.append(len(orders))
        return await cancel_all(orders)

    monkeypatch.setattr(api.collaborators.store, "cancel_all", noted)

    answer = await _order(api, "cancel", {"tag": "x", "action": "a"})

    assert answer.json == {"matched": 100}
    assert max(chunks) <= 20
    assert sum(chunks) == 100
    assert [_status(api, task_id) for task_id in ids].count("cancelled") == 100


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "invalid JSON"),
        (b"", "invalid JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"{}", "at least one filter required: status, action, tag, since, until"),
        (b'{"acton": "a"}', "acton is not a filter; there are status, action, tag, since, until"),
        (b'{"tag": "x", "limit": 1}', "limit is not a filter; there are status, action, tag, since, until"),
        (b'{"action": null}', "action must be a string that is not empty"),
        (b'{"tag": ""}', "tag must be a string that is not empty"),
        (b'{"tag": ["x"]}', "tag must be a string that is not empty"),
        (b'{"status": []}', f"status must be one or several of {', '.join(STATUSES)}"),
        (b'{"status": "done"}', f"status must be one or several of {', '.join(STATUSES)}"),
        (b'{"status": [["pending"]]}', f"status must be one or several of {', '.join(STATUSES)}"),
        (b'{"status": null}', f"status must be one or several of {', '.join(STATUSES)}"),
        (b'{"since": true}', "since must be Unix seconds, or a time with its offset, such as 2026-01-31T12:00:00Z"),
        (b'{"until": "now"}', "until must be Unix seconds, or a time with its offset, such as 2026-01-31T12:00:00Z"),
        (b'{"until": -1}', "until must be Unix seconds, or a time with its offset, such as 2026-01-31T12:00:00Z"),
    ],
)
@pytest.mark.parametrize("order", ["cancel", "retry"])
async def test_an_order_that_is_not_understood_changes_nothing(
    api: Api, order: str, body: bytes, sentence: str
) -> None:
    """400: what is left out by mistake would only widen it."""
    by_status = await _one_of_each(api)

    answer = await api.http.ask("POST", f"/tasks/{order}", body)

    assert answer.is_error(400, sentence)
    assert [_status(api, task_id) for task_id in by_status.values()] == list(STATUSES)


async def _order(api: Api, order: str, wanted: dict[str, Any]) -> Answer:
    return await api.http.ask("POST", f"/tasks/{order}", json.dumps(wanted).encode())


async def _posted(api: Api, action: str, *tags: str) -> str:
    answer = await api.http.post({"action": action, "tags": list(tags)})
    task_id: str = answer.json["id"]
    return task_id


async def _one_of_each(api: Api) -> dict[str, str]:
    """A task of each status, with the tag x."""
    by_status = {status: await _posted(api, "a", "x") for status in STATUSES}
    for status, task_id in by_status.items():
        change(api.database, "UPDATE tasks SET status = ? WHERE id = ?", status, task_id)
    change(api.database, "UPDATE tasks SET worker = 'w', attempt = 1 WHERE status = 'running'")
    change(api.database, "UPDATE tasks SET due_at = NULL WHERE status <> 'pending' AND status <> 'running'")
    return by_status


def _status(api: Api, task_id: str) -> str:
    [(status,)] = rows(api.database, "SELECT status FROM tasks WHERE id = ?", task_id)
    return str(status)
