"""`GET /tasks/{id}/events` and `GET /events`: what becomes of tasks, as it happens."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskqueue import events, feed
from taskqueue.clock import system_clock
from taskqueue.errors import StoreUnavailable
from taskqueue.schema import NO_OPTIONS, TaskPayload, TaskStatus
from taskqueue.store.changes import Event
from taskqueue.store.claims import Claimed
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.store.under_way import Progress
from taskqueue_api import streaming
from taskqueue_api.endpoints import events as endpoint
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.http import raw_connection
from tests.support.sse import Events, Told, listening
from tests.support.stored import claim

SOON = 10


@pytest.fixture
async def worker(database: Path) -> AsyncIterator[TaskStore]:
    """The store of another process on the same file, whose commits wake nobody here."""
    async with open_store(database, system_clock) as store:
        yield store


async def test_a_task_is_followed_from_where_it_stands_to_its_end(api: Api, worker: TaskStore) -> None:
    """Its state first, then each change, with progress and error; the stream ends after the final one."""
    task_id = await api.http.submitted("resize")
    await api.http.submitted("other")
    async with listening(_url(api, f"/tasks/{task_id}/events")) as stream:
        told = [await _next(stream)]
        claimed = await _claim(api, worker, task_id)
        await worker.report(Progress(task_id, 1, 7, '{"fraction":0.5,"message":"half"}'))
        await worker.settle(_settlement(claimed, TaskStatus.FAILED))
        told += await stream.rest()

    assert [each.data for each in told] == [
        {"id": task_id, "action": "resize", "status": "pending", "attempt": 0, "at": told[0].data["at"]},
        {"id": task_id, "action": "resize", "status": "running", "attempt": 1, "at": told[1].data["at"]},
        {
            "id": task_id,
            "action": "resize",
            "status": "running",
            "attempt": 1,
            "at": 7,
            "progress": {"fraction": 0.5, "message": "half"},
        },
        {"id": task_id, "action": "resize", "status": "failed", "attempt": 1, "at": 5, "error": "why"},
    ]
    assert [each.id for each in told] == sorted({each.id for each in told})


async def test_a_stream_has_the_headers_of_a_stream(api: Api) -> None:
    """Nothing between us and the client keeps it, holds it back or packs it; and how to come again is said first."""
    async with listening(_url(api, "/events"), Accept_Encoding="gzip, deflate") as stream:
        headers = stream.response.headers
        assert headers["Cache-Control"] == "no-store"
        assert "Content-Encoding" not in headers
        assert "Content-Length" not in headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Request-ID"]
        await api.http.submitted("a")
        await _next(stream)
    assert stream.retry == "2000"


async def test_a_finished_task_is_told_in_one_event(api: Api, worker: TaskStore) -> None:
    """Its state, and the end."""
    task_id = await _finished(api, worker)

    async with listening(_url(api, f"/tasks/{task_id}/events")) as stream:
        [told] = await stream.rest()

    assert told.status == "completed"


async def test_an_unknown_task_has_no_events(api: Api) -> None:
    """404, as everywhere."""
    assert (await api.http.get("/tasks/unknown/events")).is_error(404, "task not found")


async def test_all_tasks_are_followed_from_now_on(api: Api, worker: TaskStore) -> None:
    """Whichever process changes them, in the order of commits, and nothing of the past."""
    old = await api.http.submitted("old")
    async with listening(_url(api, "/events")) as stream:
        first = await _finished(api, worker, "new")
        await worker.settle(_settlement(await _claim(api, worker, old), TaskStatus.COMPLETED))
        told = [await _next(stream) for _ in range(5)]

    assert [(each.data["id"], each.data["action"], each.status) for each in told] == [
        (first, "new", "pending"),
        (first, "new", "running"),
        (first, "new", "completed"),
        (old, "old", "running"),
        (old, "old", "completed"),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=completed", ["a completed", "b completed", "c completed"]),
        ("status=pending,completed&action=b", ["b pending", "b completed"]),
        ("action=a&action=c&status=running", ["a running", "c running"]),
    ],
)
async def test_events_can_be_chosen(api: Api, worker: TaskStore, query: str, expected: list[str]) -> None:
    """By status and by action, live and replayed alike."""
    async with listening(_url(api, f"/events?{query}")) as stream:
        for action in "abc":
            await _finished(api, worker, action)
        live = [await _next(stream) for _ in expected]
    async with listening(_url(api, f"/events?{query}&last_event_id=0")) as stream:
        replayed = [await _next(stream) for _ in expected]

    assert [f"{each.data['action']} {each.status}" for each in live] == expected
    assert replayed == live


async def test_an_unknown_status_is_refused(api: Api) -> None:
    """400 with the words that there are."""
    answer = await api.http.get("/events?status=done")

    assert answer.is_error(400, "status must be one of pending, queued, running, completed, failed, cancelled")


async def test_who_comes_again_goes_on_where_it_was(
    api: Api, worker: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load, cut off again and again at any place: each event once, in order, none missing."""
    monkeypatch.setattr(endpoint, "PAGE", 7)
    start = 0
    seen: list[int] = []
    writing = asyncio.create_task(_write(worker, 300))
    while len(seen) < 300:
        async with listening(_url(api, "/events"), Last_Event_ID=str(start)) as stream:
            seen += [(await _next(stream)).id for _ in range(min(23, 300 - len(seen)))]
        start = seen[-1]
    await writing

    assert seen == [row[0] for row in rows(api.database, "SELECT seq FROM changes ORDER BY seq")]


async def test_who_comes_again_before_its_first_event_misses_none(api: Api) -> None:
    """A stream says at its beginning from where to go on."""
    await api.http.submitted("a")
    async with listening(_url(api, "/events?action=none")) as stream:
        with pytest.raises(TimeoutError):
            await stream.next(within=0.3)
        position = stream.last_id
    missed = await api.http.submitted("b")

    async with listening(_url(api, "/events"), Last_Event_ID=position) as stream:
        assert (await _next(stream)).data["id"] == missed


async def test_who_follows_one_task_goes_on_where_it_was(api: Api, worker: TaskStore) -> None:
    """What it missed of that task, and then what comes, without its state in between."""
    task_id = await api.http.submitted("a")
    async with listening(_url(api, f"/tasks/{task_id}/events")) as stream:
        last = (await _next(stream)).id
    await _finished(api, worker, "b")
    claimed = await _claim(api, worker, task_id)

    async with listening(_url(api, f"/tasks/{task_id}/events"), Last_Event_ID=str(last)) as stream:
        told = [await _next(stream)]
        await worker.settle(_settlement(claimed, TaskStatus.COMPLETED))
        told += await stream.rest()

    assert [each.status for each in told] == ["running", "completed"]


async def test_who_has_heard_the_end_is_told_not_to_come_again(api: Api, worker: TaskStore) -> None:
    """204: a browser then stops; one that missed the end hears it."""
    task_id = await _finished(api, worker)
    [seq] = [row[0] for row in rows(api.database, "SELECT max(seq) FROM changes")]

    answer = await api.http.get(f"/tasks/{task_id}/events", Last_Event_ID=str(seq))
    async with listening(_url(api, f"/tasks/{task_id}/events"), Last_Event_ID=str(seq - 1)) as stream:
        told = await stream.rest()

    assert (answer.status, answer.body) == (204, b"")
    assert [each.status for each in told] == ["completed"]


@pytest.mark.parametrize("ahead", [0, 1])
async def test_who_is_far_behind_is_told_how_a_task_stands(
    api: Api, worker: TaskStore, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Instead of a search through all that happened since; and so is who comes from another database."""
    monkeypatch.setattr(endpoint, "MAX_BEHIND", 5)
    task_id = await api.http.submitted("a")
    await _write(worker, 6)
    last = 10_000_000 * ahead + 1

    async with listening(_url(api, f"/tasks/{task_id}/events"), Last_Event_ID=str(last)) as stream:
        told = await _next(stream)

    assert (told.status, told.id) == ("pending", 7)


async def test_who_comes_from_another_database_hears_what_is_new(api: Api) -> None:
    """An id from the future is no reason to be silent until it is reached."""
    async with listening(_url(api, "/events"), Last_Event_ID="1000000") as stream:
        task_id = await api.http.submitted("a")

        assert (await _next(stream)).data["id"] == task_id


@pytest.mark.parametrize("sent", ["x", "-1", "1.5", "9" * 19, "9" * 5_000, "1 2", "0x1"])
@pytest.mark.parametrize("path", ["/events", "/tasks/unknown/events"])
async def test_an_id_that_is_none_is_refused(api: Api, path: str, sent: str) -> None:
    """400, by header and by query."""
    assert (await api.http.get(path, Last_Event_ID=sent)).is_error(400, "Last-Event-ID must be the id of an event")
    asked = await api.http.get(f"{path}?last_event_id={sent}")
    assert asked.is_error(400, "Last-Event-ID must be the id of an event")


async def test_a_silent_stream_has_a_heartbeat(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then, which shows everybody on the way that it is alive."""
    assert streaming.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.05)
    async with listening(_url(api, "/events")) as stream:
        with pytest.raises(TimeoutError):
            await stream.next(within=1)

    assert stream.comments >= 3


async def test_the_stop_of_the_api_ends_every_stream(api: Api) -> None:
    """At once, whatever it waits for."""
    task_id = await api.http.submitted("a")
    async with (
        listening(_url(api, "/events")) as everything,
        listening(_url(api, f"/tasks/{task_id}/events")) as one,
    ):
        await _next(one)
        await _taken(api, 2)

        api.collaborators.drain()

        assert await everything.rest(within=SOON) == []
        assert await one.rest(within=SOON) == []
    for path in ("/events", f"/tasks/{task_id}/events"):
        assert (await api.http.get(path)).status == 503


async def test_beyond_the_cap_a_stream_is_refused(api: Api) -> None:
    """503, and when to try again; the place of who leaves is free again."""
    api.collaborators.listeners.number = 1
    task_id = await api.http.submitted("a")
    async with listening(_url(api, "/events")):
        for path in ("/events", f"/tasks/{task_id}/events"):
            answer = await api.http.get(path)
            assert answer.is_error(503, "too many clients listen already")
            assert answer.headers["Retry-After"] == "1"
    await _taken(api, 0)
    async with listening(_url(api, "/events")):
        pass


async def test_a_client_that_does_not_read_is_cut_off(
    api: Api, worker: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a bounded time and a bounded memory."""
    monkeypatch.setattr(streaming, "READ_SECONDS", 0.3)
    for _ in range(40):
        await _progress(api, worker)
    async with raw_connection(api.port) as connection:
        await connection.send(b"GET /events?last_event_id=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        [entry] = await eventually(lambda: _streams(api), within=30, what="the end of the stream")

    assert entry["status"] == 200
    assert api.reports(events.REQUEST_FAILED) == []
    assert api.collaborators.listeners.taken == 0


async def test_a_listener_that_falls_behind_can_go_on_later(
    api: Api, worker: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends rather than fill our memory, and by the last id it misses nothing."""
    monkeypatch.setattr(feed, "MAX_WAITING", 3)
    async with listening(_url(api, "/events")) as stream:
        await _taken(api, 1)
        await worker.add_all([(_payload(str(n)), 2**52, NO_OPTIONS) for n in range(10)])
        heard = [each.id for each in await stream.rest()]
        last = heard[-1] if heard else int(stream.last_id)
    async with listening(_url(api, "/events"), Last_Event_ID=str(last)) as stream:
        while len(heard) < 10:
            heard.append((await _next(stream)).id)

    assert heard == list(range(1, 11))


async def test_a_stream_is_one_line_in_the_log(api: Api, worker: TaskStore) -> None:
    """At its end: how long it took, how much was sent, and the route rather than the path."""
    task_id = await _finished(api, worker)
    async with listening(_url(api, f"/tasks/{task_id}/events"), X_Request_ID="mine") as stream:
        await stream.rest()

    [entry] = await eventually(lambda: _streams(api), what="the line")
    assert (entry["route"], entry["status"], entry["request_id"]) == ("/tasks/{id}/events", 200, "mine")
    assert entry["bytes"] > 100
    assert entry["duration"] < 10_000


async def test_a_client_that_leaves_is_one_line_and_no_fault(api: Api) -> None:
    """The place is free again, and nothing is reported but the end."""
    async with listening(_url(api, "/events")):
        await _taken(api, 1)
    await _taken(api, 0)

    assert len(await eventually(lambda: _streams(api), what="the line")) == 1
    assert api.reports(events.REQUEST_FAILED) == []


async def test_a_database_that_fails_ends_a_stream(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its beginning by 500, within it by the end: the client comes again and goes on."""
    await api.http.submitted("a")
    change(api.database, "ALTER TABLE changes RENAME TO away")

    answer = await api.http.get("/events")

    assert answer.is_error(500, "query failed")


async def test_a_database_that_fails_within_a_stream_ends_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client comes again with the last id that it has, and goes on: nothing is missing, nothing comes twice."""
    for action in "abc":
        await api.http.submitted(action)
    monkeypatch.setattr(endpoint, "PAGE", 1)
    read, asked = api.collaborators.store.changes_after, 0

    async def fail_the_third_time(*arguments: Any) -> Sequence[Event]:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise StoreUnavailable
        return await read(*arguments)

    monkeypatch.setattr(api.collaborators.store, "changes_after", fail_the_third_time)
    async with listening(_url(api, "/events"), Last_Event_ID="0") as stream:
        told = await stream.rest()
    async with listening(_url(api, "/events"), Last_Event_ID=str(told[-1].id)) as stream:
        told.append(await _next(stream))

    assert [each.data["action"] for each in told] == ["a", "b", "c"]
    assert [report["reason"] for report in api.reports(events.REQUEST_FAILED)] == [str(StoreUnavailable())]


async def test_a_fault_of_our_own_within_a_stream_ends_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second answer is written into it."""
    await api.http.submitted("a")

    async def fail(*_: Any) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(api.collaborators.store, "changes_after", fail)
    async with raw_connection(api.port) as connection:
        await connection.send(b"GET /events?last_event_id=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        stream = await connection.rest()

    assert stream.count(b"HTTP/1.1") == 1
    assert stream.endswith(b"0\r\n\r\n")
    assert len(api.reports(events.REQUEST_FAILED)) == 1


async def test_a_feed_that_cannot_read_for_a_while_loses_nothing(api: Api) -> None:
    """A stream that is open goes on when the database is there again."""
    async with listening(_url(api, "/events")) as stream:
        await _taken(api, 1)
        change(api.database, "ALTER TABLE changes RENAME TO away")
        await eventually(lambda: api.reports(events.FEED_FAILED), what="a feed that fails")
        change(api.database, "ALTER TABLE away RENAME TO changes")
        task_id = await api.http.submitted("a")

        assert (await _next(stream)).data["id"] == task_id


async def test_who_comes_again_after_what_it_missed_was_forgotten_is_told_so(api: Api, worker: TaskStore) -> None:
    """Of all tasks by an event of its own, before what is still known; who missed nothing is not."""
    for action in "abc":
        await api.http.submitted(action)
    change(api.database, "DELETE FROM changes WHERE seq <= 2")

    async with listening(_url(api, "/events"), Last_Event_ID="1") as stream:
        gap, event = await _next(stream), await _next(stream)
    async with listening(_url(api, "/events"), Last_Event_ID="2") as stream:
        only = await _next(stream)

    assert (gap.id, gap.name, gap.data) == (2, "gap", {"after": 1, "before": 3})
    assert (event.id, event.name, event.data["action"]) == (3, "task", "c")
    assert (only.id, only.name) == (3, "task")


async def test_who_follows_one_task_and_missed_what_was_forgotten_is_told_how_it_stands(
    api: Api, worker: TaskStore
) -> None:
    """As at the beginning."""
    task_id = await api.http.submitted("a")
    claimed = await _claim(api, worker, task_id)
    await api.http.submitted("b")
    change(api.database, "DELETE FROM changes WHERE task_id = ?", task_id)

    async with listening(_url(api, f"/tasks/{task_id}/events"), Last_Event_ID="1") as stream:
        told = [await _next(stream)]
        await worker.settle(_settlement(claimed, TaskStatus.COMPLETED))
        told += await stream.rest()

    assert [(each.name, each.status) for each in told] == [("task", "running"), ("task", "completed")]


def _url(api: Api, path: str) -> str:
    return f"http://127.0.0.1:{api.port}{path}"


async def _next(stream: Events) -> Told:
    told = await stream.next()
    assert told is not None, "the stream has ended"
    return told


async def _taken(api: Api, number: int) -> None:
    await eventually(lambda: api.collaborators.listeners.taken == number, what=f"{number} listeners")
    await asyncio.sleep(0.1)


def _streams(api: Api) -> Sequence[MutableMapping[str, Any]]:
    return [entry for entry in api.reports(events.REQUEST_SERVED) if "events" in (entry["route"] or "")]


async def _finished(api: Api, worker: TaskStore, action: str = "a") -> str:
    task_id = await api.http.submitted(action)
    assert await worker.settle(_settlement(await _claim(api, worker, task_id), TaskStatus.COMPLETED))
    return task_id


async def _claim(api: Api, worker: TaskStore, task_id: str) -> Claimed:
    [(payload, attempt)] = rows(api.database, "SELECT payload, attempt FROM tasks WHERE id = ?", task_id)
    claimed = await claim(worker, TaskPayload.model_validate_json(payload), attempt)
    assert isinstance(claimed, Claimed)
    return claimed


async def _progress(api: Api, worker: TaskStore) -> None:
    """A change of half a megabyte."""
    task_id = await api.http.submitted("a")
    await _claim(api, worker, task_id)
    await worker.report(Progress(task_id, 1, 7, f'{{"message":"{"x" * 500_000}"}}'))


async def _write(worker: TaskStore, number: int) -> None:
    for each in range(number):
        await worker.add(_payload(f"task {each}"), 2**52)
        await asyncio.sleep(0.002)


def _payload(task_id: str) -> TaskPayload:
    return TaskPayload(id=task_id, action="a", data={}, created_at=1)


def _settlement(claimed: Claimed, status: TaskStatus) -> Settlement:
    error = "why" if status is TaskStatus.FAILED else None
    return Settlement(claimed.payload.id, claimed.attempt, status, result="1", error=error, now=5)
