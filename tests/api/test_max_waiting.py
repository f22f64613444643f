"""`TASKQUEUE_MAX_WAITING`: beyond so many tasks that wait, POST says when to come again, and loses nothing."""

import asyncio

import pytest

from taskqueue_api import backlog
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.http import Answer

BOUND = 20
TASK = b'{"action": "a"}'


@pytest.fixture
def bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """An API with a bound, which counts anew as often as it is asked."""
    monkeypatch.setattr(backlog, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(backlog, "SHARE", 0)
    api.collaborators.backlog.most = BOUND
    return api


async def _schedule(api: Api) -> str:
    answer = await api.http.ask("POST", "/schedules", b'{"action": "a", "interval": 3600}')
    schedule: str = answer.json["id"]
    return schedule


async def test_beyond_the_bound_every_way_in_says_when_to_come_again(bounded: Api) -> None:
    """503 and Retry-After for one, for many, and for a schedule that is run by hand; nothing is recorded."""
    schedule = await _schedule(bounded)
    for _ in range(BOUND):
        await bounded.http.submitted("a")

    ways = [
        await bounded.http.post(TASK),
        await bounded.http.post(TASK, Idempotency_Key="new"),
        await bounded.http.ask("POST", "/tasks/batch", b'{"tasks": [%b]}' % TASK),
        await bounded.http.ask("POST", f"/schedules/{schedule}/run"),
    ]

    for answer in ways:
        assert answer.is_error(503, "too many tasks wait already")
        assert int(answer.headers["Retry-After"]) > 0
    assert rows(bounded.database, "SELECT count(*) FROM tasks") == [(BOUND,)]


async def test_an_idempotent_replay_is_answered_all_the_same(bounded: Api) -> None:
    """It adds nothing: its task is there already."""
    first = await bounded.http.post(TASK, Idempotency_Key="k")
    for _ in range(BOUND - 1):
        await bounded.http.submitted("a")

    again = await bounded.http.post(TASK, Idempotency_Key="k")
    other = await bounded.http.post(b'{"action": "b"}', Idempotency_Key="k")

    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert other.status == 422


async def test_a_bad_request_is_told_so_rather_than_to_come_again(bounded: Api) -> None:
    """Coming again would not help it."""
    for _ in range(BOUND):
        await bounded.http.submitted("a")

    assert (await bounded.http.post(b"{")).status == 400


async def test_what_no_longer_waits_makes_room(bounded: Api) -> None:
    """Running and finished tasks are none that wait, and neither are those that were called off."""
    ids = [await bounded.http.submitted("a") for _ in range(BOUND)]
    assert (await bounded.http.post(TASK)).status == 503

    change(bounded.database, "UPDATE tasks SET status = 'running' WHERE rowid = 1")
    await bounded.http.ask("POST", f"/tasks/{ids[1]}/cancel")

    assert [(await bounded.http.post(TASK)).status for _ in range(3)] == [202, 202, 503]


async def test_a_batch_is_taken_as_a_whole_or_not_at_all(bounded: Api) -> None:
    """Never a part of it."""
    for _ in range(BOUND - 1):
        await bounded.http.submitted("a")

    two = await bounded.http.ask("POST", "/tasks/batch", b'{"tasks": [%b, %b]}' % (TASK, TASK))
    one = await bounded.http.ask("POST", "/tasks/batch", b'{"tasks": [%b]}' % TASK)

    assert (two.status, one.status) == (503, 202)


async def test_of_a_flood_exactly_what_fits_is_accepted_and_every_202_is_there(bounded: Api) -> None:
    """However many come at once: what was accepted is on disk, and nothing else is."""
    answers: list[Answer] = await asyncio.gather(*(bounded.http.post(TASK) for _ in range(10 * BOUND)))

    accepted = {answer.json["id"] for answer in answers if answer.status == 202}
    assert {answer.status for answer in answers} == {202, 503}
    assert {task_id for (task_id,) in rows(bounded.database, "SELECT id FROM tasks")} == accepted
    assert len(accepted) == BOUND
