"""Web pages: without keys, those of other sites order nothing here, and no name that anybody may own leads here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serving
from taskqueue_api.settings import HttpSettings
from tests.api.conftest import Api
from tests.support.http import Http, http_client
from tests.support.keys import KeyBook, bearer

FOREIGN = "a page of another site may not ask for this, as long as no keys are set"
RENAMED = "without keys, ask by localhost or an address; any other name must be in TASKQUEUE_HOST_NAMES"
TASK = b'{"action": "a"}'
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}

CHANGES = [
    ("POST", "/tasks"),
    ("POST", "/tasks/batch"),
    ("POST", "/tasks/cancel"),
    ("POST", "/tasks/1/cancel"),
    ("DELETE", "/tasks/1"),
    ("PATCH", "/schedules/1"),
    ("POST", "/schedules/1/run"),
    ("GET", "/audit"),
]


@asynccontextmanager
async def _served(api: Api, **settings: object) -> AsyncIterator[Http]:
    known = api.collaborators
    behind = Collaborators(known.store, known.broker, known.dispatcher, known.clock)
    async with (
        serving(behind, HttpSettings.model_validate({"port": 0, **settings})) as port,
        http_client(f"http://127.0.0.1:{port}") as http,
    ):
        yield http


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_a_page_of_another_site_orders_nothing(api: Api, method: str, path: str) -> None:
    """A form, or a fetch without CORS, needs nobody's leave; also an audit, which costs, is not for it."""
    answer = await api.http.ask(method, path, TASK, **CROSS_SITE)

    assert answer.is_error(403, FOREIGN)
    assert (await api.http.get("/tasks")).json["count"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://queue.example"}, 202),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://evillocalhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[::"}, 403),
        ({"Origin": "http://localhost:3000"}, 202),
        ({"Origin": "http://app.localhost"}, 202),
        ({"Origin": "http://[::1]:3000"}, 202),
        ({"Origin": "http://queue.internal:3000", "Host": "queue.internal:8080"}, 202),
        ({}, 202),
    ],
)
async def test_where_a_page_is_from_is_what_its_browser_says(api: Api, headers: dict[str, str], status: int) -> None:
    """Its site, or else its origin, which every POST has; what is no browser sends neither."""
    assert (await api.http.post({"action": "a"}, **headers)).status == status


async def test_a_link_from_another_site_leads_to_a_task(api: Api) -> None:
    """Reading changes nothing, and the page that links reads none of it."""
    task_id = await api.http.submitted("a")

    assert (await api.http.get(f"/tasks/{task_id}", **CROSS_SITE)).status == 200
    assert (await api.http.get("/livez", **CROSS_SITE)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:8080", 403),
        ("EVIL.example.", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[::1].evil.example", 403),
        ("[::1", 403),
        ("localhost:8080", 200),
        ("Localhost.", 200),
        ("queue.localhost", 200),
        ("host.docker.internal:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("api", 200),
    ],
)
async def test_on_loopback_a_public_name_is_not_ours(api: Api, host: str, status: int) -> None:
    """Whoever owns it may lead it here, and then reads as the page of our own site."""
    answer = await api.http.get("/tasks", Host=host)

    assert answer.status == status
    assert status == 200 or answer.is_error(403, RENAMED)


async def test_an_api_that_is_reached_from_elsewhere_has_any_name(api: Api) -> None:
    """It has one of its own; and has been warned of."""
    async with _served(api, host="0.0.0.0") as http:  # noqa: S104
        assert (await http.get("/tasks", Host="queue.example")).status == 200
        assert (await http.post({"action": "a"}, **CROSS_SITE)).is_error(403, FOREIGN)


@pytest.mark.parametrize(
    ("names", "host", "status"),
    [
        ("localhost", "queue.example", 403),
        ("", "queue.example", 403),
        ("queue.example, Other.example.", "queue.example:8080", 200),
        ("queue.example, Other.example.", "OTHER.example", 200),
        ("queue.example", "evil.example", 403),
        ("queue.example", "evil.queue.example", 403),
        ("queue.example", "localhost", 200),
        ("queue.example", "10.0.0.1:8080", 200),
        ("*", "evil.example", 200),
    ],
)
async def test_names_that_are_set_are_ours(api: Api, names: str, host: str, status: int) -> None:
    """Wherever it listens: as in compose, where the container listens everywhere, its port on this machine alone."""
    async with _served(api, host="0.0.0.0", host_names=names) as http:  # noqa: S104
        assert (await http.get("/tasks", Host=host)).status == status
        assert (await http.get("/readyz", Host=host)).status == 200


async def test_a_key_says_more_than_a_browser(api: Api, tmp_path: Path) -> None:
    """No browser adds one by itself; and a page that has one may come from anywhere, by way of a proxy."""
    book = KeyBook(tmp_path / "keys")
    token = book.issue()
    async with _served(api, api_keys_file=book.path) as http:
        with_key = await http.post({"action": "a"}, **bearer(token), **CROSS_SITE, Host="queue.example")
        without = await http.post({"action": "a"}, **CROSS_SITE)

    assert (with_key.status, without.status) == (202, 401)
