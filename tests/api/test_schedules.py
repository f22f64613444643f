"""`/schedules` over HTTP."""

import asyncio
import json
from typing import Any

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.store import schedules
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.http import Answer

DAILY = {"action": "sum", "data": {"numbers": [1, 2]}, "cron": "0 3 * * *", "timezone": "Europe/Berlin"}


async def _create(api: Api, asked: dict[str, Any]) -> Answer:
    return await api.http.ask("POST", "/schedules", json.dumps(asked).encode())


async def _patch(api: Api, path: str, changes: dict[str, Any]) -> Answer:
    return await api.http.ask("PATCH", path, json.dumps(changes).encode())


async def test_a_schedule_is_created_listed_and_shown(api: Api) -> None:
    """With everything that was asked for, and when it comes next."""
    created = await _create(api, {**DAILY, "priority": 5, "tags": ["nightly"]})

    assert created.status == 201
    schedule = created.json
    assert created.headers["Location"] == f"/schedules/{schedule['id']}"
    asked = {name: schedule[name] for name in DAILY}
    assert asked == DAILY
    assert (schedule["missed"], schedule["paused"], schedule["priority"], schedule["tags"]) == (
        "run",
        False,
        5,
        ["nightly"],
    )
    assert 0 < schedule["next_at"] - system_clock() // 1000 <= 90_000
    assert (schedule["last_at"], schedule["last_task_id"]) == (None, None)
    assert (await api.http.get(f"/schedules/{schedule['id']}")).json == schedule
    assert (await api.http.get("/schedules")).json == {"schedules": [schedule], "count": 1}


async def test_schedules_are_listed_by_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they were made, each once; a page has an end by number and by size, and one at least."""
    monkeypatch.setattr(schedules, "PAGE", 3)
    monkeypatch.setattr(schedules, "PAGE_CHARACTERS", 1_000)
    sizes = [1, 1, 1, 1, 2_000, 700, 700, 1]
    ids = [(await _create(api, {**DAILY, "data": {"text": "x" * size}})).json["id"] for size in sizes]
    order = [row[0] for row in rows(api.database, "SELECT id FROM schedules ORDER BY created_at, id")]
    path: str | None = "/schedules"
    listed, counts = [], []
    while path is not None:
        answer = await api.http.get(path)
        listed += [schedule["id"] for schedule in answer.json["schedules"]]
        counts.append(answer.json["count"])
        link = answer.headers.get("Link")
        path = link.partition("<")[2].partition(">")[0] if link else None

    assert listed == order
    assert set(listed) == set(ids)
    assert all(1 <= count <= 3 for count in counts)
    assert len(counts) >= 4
    assert (await api.http.get("/schedules?cursor=x")).is_error(400, "cursor must be one that an earlier answer gave")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"cron": None}, "either cron or interval is required, and not both"),
        ({"cron": "99 * * * *"}, "cron '99 * * * *': Bad minute"),
        ({"timezone": "Nowhere"}, "timezone 'Nowhere' is not known: it must be a name such as Europe/Berlin"),
        ({"action": ""}, "action required"),
        ({"data": []}, "data must be an object"),
        (
            {"cron": None, "interval": 5, "timezone": "Nowhere"},
            "timezone 'Nowhere' is not known: it must be a name such as Europe/Berlin",
        ),
        ({"missed": "no"}, "missed must be 'run' or 'skip'"),
        ({"paused": "yes"}, "paused must be true or false"),
    ],
)
async def test_a_bad_schedule_is_refused(api: Api, members: dict[str, Any], sentence: str) -> None:
    """When it is created, and when it is changed; nothing is recorded."""
    assert (await _create(api, {**DAILY, **members})).is_error(400, sentence)
    assert rows(api.database, "SELECT id FROM schedules") == []
    path = (await _create(api, DAILY)).headers["Location"]
    before = (await api.http.get(path)).json

    assert (await _patch(api, path, members)).is_error(400, sentence)

    assert (await api.http.get(path)).json == before


async def test_a_schedule_is_changed_in_part(api: Api) -> None:
    """What is not sent stays; an interval takes the place of a cron expression."""
    path = (await _create(api, DAILY)).headers["Location"]

    changed = await _patch(api, path, {"interval": 60, "data": {"numbers": []}})

    schedule = changed.json
    assert changed.status == 200
    assert (schedule["cron"], schedule["interval"], schedule["action"]) == (None, 60, "sum")
    assert schedule["data"] == {"numbers": []}
    assert 0 <= schedule["next_at"] - system_clock() // 1000 <= 61


async def test_changes_at_once_all_hold(api: Api) -> None:
    """None undoes another."""
    path = (await _create(api, DAILY)).headers["Location"]

    changes: list[dict[str, Any]] = [{"paused": True}, {"tags": ["x"]}, {"priority": 5}, {"missed": "skip"}]
    answers = await asyncio.gather(*(_patch(api, path, change) for change in changes))

    assert {answer.status for answer in answers} == {200}
    schedule = (await api.http.get(path)).json
    assert (schedule["paused"], schedule["tags"], schedule["priority"], schedule["missed"]) == (True, ["x"], 5, "skip")


async def test_a_schedule_is_paused_and_resumed(api: Api) -> None:
    """A paused one has no next tick."""
    path = (await _create(api, DAILY)).headers["Location"]

    paused = (await api.http.ask("POST", f"{path}/pause")).json
    resumed = (await api.http.ask("POST", f"{path}/resume")).json

    assert (paused["paused"], paused["next_at"]) == (True, None)
    assert resumed["paused"] is False
    assert resumed["next_at"] is not None


async def test_a_schedule_runs_now_without_moving_its_ticks(api: Api) -> None:
    """The task is like any other, and says which schedule it is of."""
    created = await _create(api, DAILY)
    path, before = created.headers["Location"], created.json

    ran = await api.http.ask("POST", f"{path}/run")

    assert ran.status == 202
    task_id = ran.json["id"]
    assert ran.headers["Location"] == f"/tasks/{task_id}"
    assert rows(api.database, "SELECT action, schedule_id FROM tasks WHERE id = ?", task_id) == [("sum", before["id"])]
    assert (await api.http.get(path)).json == before


async def test_a_run_while_the_broker_is_away_is_due_at_once(api: Api, memory_broker: MemoryBroker) -> None:
    """Accepted as ever; a worker takes it straight from the store, without the time that a dispatch may take."""
    path = (await _create(api, DAILY)).headers["Location"]
    memory_broker.connected = False

    ran = await api.http.ask("POST", f"{path}/run")

    assert ran.status == 202
    [(due_at,)] = rows(api.database, "SELECT due_at FROM tasks WHERE id = ?", ran.json["id"])
    assert due_at <= system_clock()


async def test_a_schedule_is_deleted(api: Api) -> None:
    """And then it is not found, whatever is asked of it."""
    path = (await _create(api, DAILY)).headers["Location"]

    deleted = await api.http.ask("DELETE", path)

    assert (deleted.status, deleted.body) == (204, b"")
    for method, place in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/run"),
        ("POST", f"{path}/pause"),
        ("POST", f"{path}/resume"),
    ):
        assert (await api.http.ask(method, place)).is_error(404, "schedule not found")
    assert (await _patch(api, path, {"paused": True})).is_error(404, "schedule not found")


async def test_a_schedule_that_became_bad_is_still_shown(api: Api) -> None:
    """So that it can be mended."""
    path = (await _create(api, DAILY)).headers["Location"]
    change(api.database, "UPDATE schedules SET timezone = 'Gone/Away', next_at = NULL")

    assert (await api.http.get(path)).json["timezone"] == "Gone/Away"

    assert (await _patch(api, path, {"timezone": "UTC"})).json["next_at"] is not None


async def test_a_damaged_schedule_does_not_hide_the_others(api: Api) -> None:
    """It is left out of the list, an error when asked for, and can be deleted."""
    bad, good = [(await _create(api, DAILY)).json["id"] for _ in range(2)]
    change(api.database, "UPDATE schedules SET options = '[]' WHERE id = ?", bad)

    listed = (await api.http.get("/schedules")).json

    assert ([schedule["id"] for schedule in listed["schedules"]], listed["count"]) == ([good], 1)
    assert (await api.http.get(f"/schedules/{bad}")).is_error(500, "query failed")
    assert (await api.http.ask("DELETE", f"/schedules/{bad}")).status == 204
