"""`GET /audit`, and `make audit` for people: what they tell, and when they fail."""

import asyncio
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskqueue.broker.contract import Holdings
from taskqueue.errors import BrokerUnavailable
from tests.api.conftest import Api
from tests.support.database import change, write_locked


async def test_what_balances_says_so(api: Api) -> None:
    """The sum, the broker, the claims, and every check by name."""
    for _ in range(3):
        await api.http.submitted("a")
    await api.http.post({"action": "a", "delay": 3600})

    answer = await api.http.get("/audit")

    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json
    assert told["balanced"] is True
    assert told["tasks"] == {
        "accepted": 4,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "waiting": 3,
        "running": 0,
        "scheduled": 1,
        "removed": 0,
    }
    assert told["broker"] == {"ready": 0, "unacknowledged": 0, "dead": 0}
    assert told["claims"] == {"live": 0, "gone": 0}
    verdicts = {check["name"]: check["verdict"] for check in told["checks"]}
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == {"integrity"}
    assert {check["invariant"] for check in told["checks"]} == {f"I{number}" for number in range(1, 8)}


async def test_what_does_not_balance_is_named(api: Api) -> None:
    """200 all the same: it is the answer to the question."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET due_at = NULL")

    answer = await api.http.get("/audit")

    assert (answer.status, answer.json["balanced"]) == (200, False)
    [failed] = [check for check in answer.json["checks"] if check["verdict"] == "fail"]
    assert (failed["name"], failed["invariant"], failed["ids"]) == ("pending_without_due_at", "I1", [task_id])
    assert failed["finding"] == "1 × waits, and no sweep will ever find it"


async def test_the_file_is_checked_where_it_is_asked_for(api: Api) -> None:
    """And anything else that is asked is refused."""
    whole = await api.http.get("/audit?integrity=1")
    odd = await api.http.get("/audit?integrity=yes")

    assert {check["name"]: check["verdict"] for check in whole.json["checks"]}["integrity"] == "pass"
    assert odd.is_error(400, "integrity must be 0 or 1")


async def test_a_broker_that_tells_nothing_is_unknown(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no failure: the database alone balances."""

    async def away() -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(api.collaborators.broker, "holdings", away)

    told = (await api.http.get("/audit")).json

    assert (told["balanced"], told["broker"]) == (True, None)
    verdicts = {check["name"]: check["verdict"] for check in told["checks"]}
    assert (verdicts["messages"], verdicts["dead_letters"]) == ("unknown", "unknown")


async def test_one_audit_is_at_work_at_a_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads everything; a second one is asked to come again."""
    begun, going_on = asyncio.Event(), asyncio.Event()
    holdings = api.collaborators.broker.holdings

    async def slow() -> Holdings:
        begun.set()
        await going_on.wait()
        return await holdings()

    monkeypatch.setattr(api.collaborators.broker, "holdings", slow)
    first = asyncio.create_task(api.http.get("/audit"))
    await asyncio.wait_for(begun.wait(), 30)
    second = await api.http.get("/audit")
    going_on.set()

    assert second.is_error(429, "an audit is at work already")
    assert second.headers["Retry-After"] == "5"
    assert (await first).status == 200


async def test_a_store_that_cannot_be_read_is_an_error(api: Api) -> None:
    """As for every other question; one that is only locked by a writer is read."""
    with write_locked(api.database):
        assert (await api.http.get("/audit")).status == 200
    change(api.database, "DROP TABLE tallies")

    assert (await api.http.get("/audit")).is_error(500, "query failed")


async def test_for_people_there_is_a_command(api: Api) -> None:
    """Exit code 0 where all balances, 1 where not, 2 where nobody answers."""
    task_id = await api.http.submitted("a")
    good = await _command(f"http://127.0.0.1:{api.port}", "--integrity")
    change(api.database, "UPDATE tasks SET due_at = NULL")
    bad = await _command(f"http://127.0.0.1:{api.port}/")
    none = await _command("http://127.0.0.1:1")
    odd = await _command("file:///etc/passwd")

    assert (good[0], good[1].splitlines()[-1]) == (0, "balanced")
    assert good[1].startswith("1 accepted = 0 completed + 0 failed + 0 cancelled + 1 waiting + 0 running + 0 scheduled")
    assert (bad[0], bad[1].splitlines()[-1]) == (1, "DOES NOT BALANCE")
    assert task_id in bad[1]
    assert (none[0], odd[0]) == (2, 2)


async def test_a_key_goes_to_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the one that was asked sends us on to another."""
    heard: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append((request.path, request.headers.get("Authorization")))
        if request.path == "/audit":
            raise web.HTTPFound(f"http://localhost:{request.url.port}/elsewhere")
        return web.json_response({})

    monkeypatch.setenv("TASKQUEUE_API_KEY", "tq_1_secret")
    elsewhere = web.Application()
    elsewhere.router.add_get("/{any}", answer)
    async with TestServer(elsewhere) as server:
        await _command(f"http://127.0.0.1:{server.port}")

    assert heard == [("/audit", "Bearer tq_1_secret"), ("/elsewhere", None)]


async def _command(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskqueue_api.audit_check", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    return process.returncode, told.decode()
