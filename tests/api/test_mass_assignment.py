"""What a client names in a body beyond what it may ask for has no effect (OWASP API3:2023)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.support.database import rows

ASKED = {"action", "data", "priority", "timeout", "max_attempts", "run_at", "expires_at", "tags"}
OF_EACH_TASK = {"id", "payload", "created_at", "accepted_at", "due_at"}
OTHER_NAMES = {"attempts", "dispatched_at", "recorded", "v", "owner", "timings", "key", "__class__", "constructor"}


def _columns(database: Path) -> list[str]:
    return [name for (_, name, *_) in rows(database, "PRAGMA table_info(tasks)")]


def _stored(database: Path) -> list[dict[str, Any]]:
    names = _columns(database)
    return [dict(zip(names, row, strict=True)) for row in rows(database, "SELECT * FROM tasks ORDER BY accepted_at")]


@pytest.mark.parametrize("value", ["x", 7, -1, "completed", None, True, {}, [], 2**53], ids=repr)
async def test_no_column_of_a_task_can_be_set_by_naming_it(api: Api, value: object) -> None:
    """Not of one task, nor of a batch, nor by way of a schedule: each is as if nothing more had been named."""
    named: dict[str, object] = dict.fromkeys((set(_columns(api.database)) | OTHER_NAMES) - ASKED, value)
    bodies: list[dict[str, object]] = [{"action": "a"}, {"action": "a", **named}]
    for body in bodies:
        schedule = await api.http.ask("POST", "/schedules", json.dumps({**body, "interval": 3600}).encode())
        answers = [
            await api.http.post(body),
            await api.http.ask("POST", "/tasks/batch", json.dumps({**named, "tasks": [body]}).encode()),
            await api.http.ask("POST", f"/schedules/{schedule.json['id']}/run", json.dumps(named).encode()),
        ]
        assert [answer.status for answer in answers] == [202, 202, 202]

    plain, meddled = _stored(api.database)[:3], _stored(api.database)[3:]
    for one, other in zip(plain, meddled, strict=True):
        schedules = [one.pop("schedule_id"), other.pop("schedule_id")]
        assert len(set(schedules)) == (2 if any(schedules) else 1)
        assert {k: v for k, v in one.items() if k not in OF_EACH_TASK} == {
            k: v for k, v in other.items() if k not in OF_EACH_TASK
        }
        assert other["id"] not in (value, one["id"])
        payload = json.loads(other["payload"])
        assert (payload["id"], payload["action"], payload["data"]) == (other["id"], "a", {})
        assert set(payload) == {"id", "action", "data", "created_at"}
        assert abs(other["accepted_at"] - one["accepted_at"]) < 60_000_000
