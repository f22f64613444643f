"""`Idempotency-Key`: the same request, sent again, is the same task."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.api.conftest import Api
from tests.conftest import StartService
from tests.support.database import change, rows
from tests.support.http import Answer, Http, http_client
from tests.support.ports import free_port

BODY = b'{"action": "a", "tags": ["x"]}'


async def test_the_same_request_again_is_the_same_task(api: Api) -> None:
    """The same id, marked as a replay, with the status of now; one row, one tag, one change."""
    first = await api.http.post(BODY, Idempotency_Key="k")
    change(api.database, "UPDATE tasks SET status = 'completed', result = '1'")

    second = await api.http.post(BODY, Idempotency_Key="k")

    assert (first.status, first.json["status"]) == (202, "queued")
    assert "Idempotent-Replayed" not in first.headers
    assert (second.status, second.json) == (202, {"id": first.json["id"], "status": "completed"})
    assert (second.headers["Idempotent-Replayed"], second.headers["Location"]) == ("true", first.headers["Location"])
    for table in ("tasks", "task_tags", "changes"):
        assert len(rows(api.database, f"SELECT * FROM {table}")) == 1  # noqa: S608 - of our own making


@pytest.mark.parametrize("body", [BODY + b" ", b'{"action": "b"}', b"{"])
async def test_another_body_under_a_known_key_is_refused(api: Api, body: bytes) -> None:
    """422: byte for byte, or not at all."""
    await api.http.post(BODY, Idempotency_Key="k")

    answer = await api.http.post(body, Idempotency_Key="k")

    assert answer.is_error(422, "this Idempotency-Key came with another body before")
    assert len(rows(api.database, "SELECT id FROM tasks")) == 1


async def test_a_replay_is_answered_after_its_times_have_passed(api: Api) -> None:
    """What was accepted once stays accepted, though it would be refused as a new task."""
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    body = json.dumps({"action": "a", "expires_at": expires_at.isoformat()}).encode()
    first = await api.http.post(body, Idempotency_Key="k")
    await asyncio.sleep(1)

    assert (await api.http.post(body)).status == 400
    assert (await api.http.post(body, Idempotency_Key="k")).json["id"] == first.json["id"]


async def test_other_keys_and_no_keys_are_other_tasks(api: Api) -> None:
    """Keys are told apart by case; a request without one is always new."""
    keys = [{"Idempotency_Key": "k"}, {"Idempotency_Key": "K"}, {}, {}]

    ids = [(await api.http.post(BODY, **headers)).json["id"] for headers in keys]

    assert len(set(ids)) == 4


@pytest.mark.parametrize("key", ["k", "!~", '"quoted"', "x" * 255])
async def test_any_visible_ascii_is_a_key(api: Api, key: str) -> None:
    """Up to 255 characters."""
    assert (await api.http.post(BODY, Idempotency_Key=key)).status == 202


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü", "a\tb"])
async def test_what_cannot_be_a_key_is_refused(api: Api, key: str) -> None:
    """400 rather than a promise that is not kept."""
    answer = await api.http.post(BODY, Idempotency_Key=key)

    assert answer.is_error(400, "Idempotency-Key must be 1 to 255 visible ASCII characters")
    assert rows(api.database, "SELECT id FROM tasks") == []


async def test_a_key_is_exact_under_concurrent_posts_to_two_processes(
    start_service: StartService, database: Path
) -> None:
    """Of 10 keys posted 8 times at once to two APIs, each is one task, new once; 10 bodies under one key: one wins."""
    nowhere = f"amqp://127.0.0.1:{free_port()}/"
    settings = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": nowhere, "PORT": 0}
    services = [start_service("taskqueue_api", **settings) for _ in range(2)]
    async with http_client(await services[0].url()) as one, http_client(await services[1].url()) as other:
        same = await asyncio.gather(
            *(_posted(http, f"k{number}", BODY) for number in range(10) for http in (one, other) * 4)
        )
        rivals = await asyncio.gather(
            *(_posted((one, other)[n % 2], "shared", b'{"action": "%d"}' % n) for n in range(10))
        )

    assert {answer.status for answer in same} == {202}
    assert len({answer.json["id"] for answer in same}) == 10
    assert sum("Idempotent-Replayed" not in answer.headers for answer in same) == 10
    assert sorted(answer.status for answer in rivals) == [202, *[422] * 9]
    assert len(rows(database, "SELECT id FROM tasks")) == 11


async def _posted(http: Http, key: str, body: bytes) -> Answer:
    return await http.post(body, Idempotency_Key=key)
