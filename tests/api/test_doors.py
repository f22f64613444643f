"""Who comes in: keys with their scopes over every route, keys that end, the pace of each, and doors without keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskqueue import events
from taskqueue.errors import InvalidSettings
from taskqueue_api.access import keyfile
from taskqueue_api.access.doors import Doors, _origin
from taskqueue_api.access.pace import Pace
from taskqueue_api.access.scopes import OPEN, Scope
from taskqueue_api.app import create_app
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.endpoints import health
from taskqueue_api.server import serving
from taskqueue_api.settings import HttpSettings
from tests.api.conftest import Api
from tests.support.eventually import eventually
from tests.support.http import Answer, Http, http_client, raw_connection
from tests.support.keys import KeyBook, bearer

READ, SUBMIT, ADMIN = Scope.READ, Scope.SUBMIT, Scope.ADMIN

SCOPES = {
    "POST /tasks": SUBMIT,
    "POST /tasks/batch": SUBMIT,
    "GET /tasks": READ,
    "GET /tasks/{id}": READ,
    "GET /tasks/{id}/why": READ,
    "DELETE /tasks/{id}": ADMIN,
    "POST /tasks/cancel": ADMIN,
    "POST /tasks/retry": ADMIN,
    "POST /tasks/{id}/cancel": SUBMIT,
    "POST /tasks/{id}/retry": SUBMIT,
    "GET /tasks/{id}/events": READ,
    "GET /events": READ,
    "GET /actions": READ,
    "GET /workers": READ,
    "GET /audit": ADMIN,
    "POST /schedules": SUBMIT,
    "GET /schedules": READ,
    "GET /schedules/{id}": READ,
    "PATCH /schedules/{id}": SUBMIT,
    "DELETE /schedules/{id}": ADMIN,
    "POST /schedules/{id}/pause": SUBMIT,
    "POST /schedules/{id}/resume": SUBMIT,
    "POST /schedules/{id}/run": SUBMIT,
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
}
"""Every route, by hand: a new one is not let in by itself."""


@dataclass(frozen=True)
class Locked:
    """The API of a test, once more, behind doors."""

    http: Http
    port: int
    book: KeyBook

    async def refuses(self, token: str) -> bool:
        """Whether it no longer takes this key."""
        return (await self.http.get("/tasks", **bearer(token))).status == 401


@asynccontextmanager
async def _served(api: Api, **settings: object) -> AsyncIterator[tuple[Http, int]]:
    known = api.collaborators
    behind = Collaborators(known.store, known.broker, known.dispatcher, known.clock)
    async with (
        serving(behind, HttpSettings.model_validate({"port": 0, **settings})) as port,
        http_client(f"http://127.0.0.1:{port}") as http,
    ):
        yield http, port


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    """A file with a key that may do everything."""
    book = KeyBook(tmp_path / "keys")
    book.issue()
    return book


@pytest.fixture
async def locked(api: Api, book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Locked]:
    """An API that asks for keys, and reads their file again sooner than in production."""
    assert keyfile.REFRESH_SECONDS <= 0.5
    monkeypatch.setattr(keyfile, "REFRESH_SECONDS", 0.02)
    async with _served(api, api_keys_file=book.path) as (http, port):
        yield Locked(http, port, book)


def _routes(api: Api) -> dict[str, Scope | None]:
    """Every route of the application, and what it declares. Raises KeyError for one that declares nothing."""
    doors = Doors(None, Pace(0), api.collaborators.clock)
    app = create_app(api.collaborators, doors)
    return {
        f"{route.method} {route.resource.canonical}": doors.scope_of(route)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }


async def test_every_route_declares_its_scope(api: Api) -> None:
    """A route that declares none fails here, and so does one that declares another than stands above."""
    assert _routes(api) == SCOPES


async def test_head_asks_for_what_get_asks_for(api: Api) -> None:
    """It tells whether there is such a task."""
    doors = Doors(None, Pace(0), api.collaborators.clock)
    heads = [route for route in create_app(api.collaborators, doors).router.routes() if route.method == "HEAD"]

    assert len(heads) > 5
    for route in heads:
        assert route.resource is not None
        assert doors.scope_of(route) is SCOPES[f"GET {route.resource.canonical}"]


async def test_a_route_that_declares_nothing_is_noticed(api: Api) -> None:
    """What the test above relies on; and such a route still asks for a key, whichever it is."""
    doors = Doors(None, Pace(0), api.collaborators.clock)
    app = create_app(api.collaborators, doors)
    route = app.router.add_get("/new", health.live)

    with pytest.raises(KeyError):
        doors.scope_of(route)


@pytest.mark.parametrize("route", SCOPES)
async def test_every_route_takes_its_scope_and_no_other(locked: Locked, route: str) -> None:
    """Without a key 401, with the others' scopes 403, with its own whatever the endpoint says."""
    wanted, mine = SCOPES[route], [SCOPES[route]] if SCOPES[route] else []
    tokens = {scope: locked.book.issue(scope) for scope in Scope}
    tokens_of_all_others = locked.book.issue(*[scope for scope in Scope if scope not in mine])
    await eventually(lambda: _takes(locked, tokens_of_all_others), what="the new keys")

    statuses = {scope: await _status(locked, route, tokens[scope]) for scope in Scope}

    assert max(statuses.values()) < 500
    refused = {scope for scope in Scope if statuses[scope] in (401, 403)}
    assert refused == (set() if wanted is OPEN else set(Scope) - {wanted})
    assert await _status(locked, route, None) == (200 if wanted is OPEN else 401)
    if route.startswith("GET") and "events" not in route and "audit" not in route:
        path = route.removeprefix("GET ").format(id="1")
        heads = [await locked.http.ask("HEAD", path, None, **each) for each in ({}, bearer(tokens_of_all_others))]
        assert [head.status for head in heads] == ([200, 200] if wanted is OPEN else [401, 403])
    assert (await _status(locked, route, tokens_of_all_others) == 403) == (wanted is not OPEN)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/tasks/1/2"), ("PUT", "/tasks"), ("HEAD", "/tasks"), ("PUT", "/livez")]
)
async def test_what_is_no_route_asks_for_a_key_too(locked: Locked, method: str, path: str) -> None:
    """Nothing is told to strangers but that the process is alive and ready."""
    answer = await locked.http.ask(method, path)

    assert answer.status == 401


async def test_a_missing_scope_is_named(locked: Locked) -> None:
    """403, so that its holder knows what to ask for."""
    token = locked.book.issue(READ)
    await eventually(lambda: _takes(locked, token), what="the new key")

    answer = await locked.http.post({"action": "a"}, **bearer(token))

    assert answer.is_error(403, "this key has not the scope submit")


async def test_all_that_is_no_key_is_refused_alike(locked: Locked) -> None:
    """Unknown, revoked, expired, malformed, missing, twice: one answer, byte for byte."""
    revoked = locked.book.issue()
    expired = locked.book.issue(expires="2026-01-31T12:00:00Z")
    locked.book.revoke(revoked)
    known = locked.book.issue()
    await eventually(lambda: _takes(locked, known), what="the new key")

    answers = [
        await locked.http.get("/tasks", **headers)
        for headers in (
            {},
            bearer(revoked),
            bearer(expired),
            bearer(known[:-1]),
            bearer(known.rpartition("_")[0]),
            bearer("\u00e4"),
            bearer(f"{known} {known}"),
            bearer(f"{known}, Bearer {known}"),
            {"Authorization": known},
            {"Authorization": f"Basic {known}"},
            {"Authorization": "Bearer"},
            {"Authorization": ""},
            {"X_API_Key": known},
        )
    ]

    assert {(answer.status, answer.body) for answer in answers} == {(401, b'{"error":"a valid key is required"}')}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}


@pytest.mark.parametrize("name", ["api_key", "key", "token", "access_token", "authorization"])
async def test_a_key_in_the_query_is_none(locked: Locked, name: str) -> None:
    """Queries stand in the logs of whoever is between us."""
    token = locked.book.issue()
    await eventually(lambda: _takes(locked, token), what="the new key")

    assert (await locked.http.get(f"/tasks?{name}={token}")).status == 401


async def test_a_refused_body_is_not_read_and_does_nothing(locked: Locked, api: Api) -> None:
    """A stranger's megabytes are not kept, and the connection serves the next request, or is closed."""
    async with raw_connection(locked.port) as connection:
        await connection.send(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b" " * 1_000)

        assert (await connection.answer()).status == 401
    assert (await api.http.get("/tasks")).json["count"] == 0


async def test_two_keys_are_valid_while_one_takes_the_others_place(locked: Locked) -> None:
    """The new one is added, clients change over, the old one is taken out: no request is refused on the way."""
    old = locked.book.issue()
    await eventually(lambda: _takes(locked, old), what="the first key")
    new = locked.book.issue()
    await eventually(lambda: _takes(locked, new), what="the second key")
    assert not await locked.refuses(old)

    locked.book.revoke(old)

    await eventually(lambda: locked.refuses(old), within=5, what="the end of the first key")
    assert not await locked.refuses(new)


async def test_a_broken_file_keeps_the_keys_that_were(locked: Locked, api: Api) -> None:
    """A slip of the editor locks nobody out, and lets nobody in."""
    token = locked.book.issue()
    await eventually(lambda: _takes(locked, token), what="the key")

    locked.book.spoil("nonsense")

    await eventually(lambda: api.reports(events.KEYS_UNUSABLE), what="the report")
    assert not await locked.refuses(token)
    assert (await locked.http.get("/tasks")).status == 401


async def test_a_file_that_could_not_be_read_is_read_again(
    locked: Locked, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was, such as no thread for it: revoked keys would otherwise be valid for as long as it runs."""
    token, other = locked.book.issue(), locked.book.issue()
    await eventually(lambda: _takes(locked, other), what="the keys")

    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(keyfile.KeyFile, "refresh", no_thread)
        await eventually(lambda: api.reports(events.KEYS_UNUSABLE), what="the report")
    locked.book.revoke(token)

    await eventually(lambda: locked.refuses(token), what="the end of the key")
    assert not await locked.refuses(other)


@pytest.mark.parametrize("path", ["/events", "/tasks/{id}/events", "/tasks/{id}?wait=30"])
async def test_who_reads_when_the_key_is_revoked_is_cut_off(locked: Locked, path: str) -> None:
    """A stream would otherwise go on for ever, and a wait bring a result."""
    token = locked.book.issue()
    await eventually(lambda: _takes(locked, token), what="the key")
    task_id = (await locked.http.post({"action": "a"}, **bearer(token))).json["id"]
    async with raw_connection(locked.port) as connection:
        head = f"GET {path.format(id=task_id)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        await connection.send(head.encode())
        if "events" in path:
            assert (await connection.answer()).status == 200
        else:
            await asyncio.sleep(0.2)

        locked.book.revoke(token)

        assert b"completed" not in await connection.rest(within=10)


async def test_only_who_may_read_waits_for_a_result(locked: Locked, api: Api) -> None:
    """A key that only submits gets the 202, at once."""
    submits, reads_too = locked.book.issue(SUBMIT), locked.book.issue(SUBMIT, READ)
    await eventually(lambda: _takes(locked, reads_too), what="the keys")

    answer = await locked.http.ask("POST", "/tasks?wait=30", b'{"action": "a"}', **bearer(submits))
    waited = await locked.http.ask("POST", "/tasks?wait=1", b'{"action": "a"}', **bearer(reads_too))

    assert (answer.status, waited.status) == (202, 202)
    durations = [entry["duration"] for entry in api.reports(events.REQUEST_SERVED)[-2:]]
    assert durations[0] < 1_000 <= durations[1]


async def test_the_log_names_the_key_by_its_id(locked: Locked, api: Api) -> None:
    """Who did it, without what opens the door."""
    token = locked.book.issue()
    await eventually(lambda: _takes(locked, token), what="the key")
    await locked.http.get("/workers", **bearer(token))

    [entry] = [entry for entry in api.reports(events.REQUEST_SERVED) if entry["route"] == "/workers"]
    assert entry["key"] == token.rpartition("_")[0]
    assert token.rpartition("_")[2] not in str(api.log)


async def test_each_key_has_a_pace_of_its_own(api: Api, book: KeyBook) -> None:
    """429 with Retry-After beyond it; another key, and what is open, go on."""
    first, second = book.issue(), book.issue()
    async with _served(api, api_keys_file=book.path, rate_limit=0.01) as (http, _):
        answers = [await http.get("/workers", **bearer(first)) for _ in range(3)]
        others = [await http.get("/workers", **bearer(second)), await http.get("/livez"), await http.get("/livez")]

    assert [answer.status for answer in answers] == [200, 429, 429]
    assert answers[1].is_error(429, "too many requests")
    assert 90 <= int(answers[1].headers["Retry-After"]) <= 100
    assert [answer.status for answer in others] == [200, 200, 200]


async def test_without_keys_each_address_has_a_pace(api: Api) -> None:
    """Where a rate is set."""
    async with _served(api, rate_limit=0.01) as (http, _):
        assert [(await http.get("/workers")).status for _ in range(2)] == [200, 429]


async def test_without_a_rate_there_is_no_pace(api: Api) -> None:
    """By default nobody is slowed down."""
    assert HttpSettings().rate_limit == 0
    assert {(await api.http.get("/livez")).status for _ in range(50)} == {200}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        (None, "", True),
    ],
)
def test_an_address_counts_as_its_owner(one: str | None, other: str, same: bool) -> None:
    """Whoever has an address of IPv6 has 2^64 of them."""
    assert (_origin(one) == _origin(other)) is same


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])  # noqa: S104
async def test_doors_without_keys_are_told_of_loudly(api: Api, host: str, warned: bool) -> None:
    """Unless nobody but this machine reaches them."""
    async with _served(api, host=host):
        assert bool(api.reports(events.DOORS_OPEN)) is warned


async def test_doors_with_keys_are_not_told_of(locked: Locked, api: Api) -> None:
    """There is nothing to warn of."""
    assert api.reports(events.DOORS_OPEN) == []


async def test_a_file_that_others_may_read_refuses_the_start(api: Api, book: KeyBook) -> None:
    """Before anything is listened on."""
    book.path.chmod(0o644)

    with pytest.raises(InvalidSettings, match="others may read or write it"):
        async with _served(api, api_keys_file=book.path):
            pass


@pytest.mark.parametrize("status", [200, 202, 404, 401])
async def test_no_answer_is_kept_by_anybody(locked: Locked, status: int) -> None:
    """No cache between us and the client keeps tasks, nor that there was none."""
    token = locked.book.issue()
    await eventually(lambda: _takes(locked, token), what="the key")
    answers = [
        await locked.http.get("/tasks", **bearer(token)),
        await locked.http.post({"action": "a"}, **bearer(token)),
        await locked.http.get("/tasks/1", **bearer(token)),
        await locked.http.get("/tasks"),
    ]

    assert {answer.headers["Cache-Control"] for answer in answers if answer.status == status} == {"no-store"}


async def _takes(locked: Locked, token: str) -> bool:
    return not await locked.refuses(token)


async def _status(locked: Locked, route: str, token: str | None) -> int:
    method, path = route.split()
    key = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"{method} {path.format(id='1')} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: 0\r\n\r\n"
    async with raw_connection(locked.port) as connection:
        await connection.send(head.encode())
        answer: Answer = await connection.answer()
    return answer.status
