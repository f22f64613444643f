"""What all answers have in common: their form, their headers, their request id and their line in the log."""

import json
from uuid import UUID

import pytest

from taskqueue import events
from tests.api.conftest import Api
from tests.support.database import change
from tests.support.http import raw_connection

SECRET = "a secret of the client"

EVERY_STATUS = [
    ("GET", "/livez", None, 200),
    ("HEAD", "/tasks", None, 200),
    ("POST", "/tasks", b'{"action": "a"}', 202),
    ("POST", "/tasks", b"{", 400),
    ("GET", "/tasks?status=odd", None, 400),
    ("GET", "/tasks/1", None, 404),
    ("GET", "/", None, 404),
    ("PUT", "/tasks", None, 405),
    ("POST", "/tasks", b" " * 1_048_577, 413),
]


@pytest.mark.parametrize(
    "path", ["/", "/task", "/tasks/", "/tasks/1/", "/tasks/1/2", "/TASKS", "//tasks", "/../livez", "/favicon.ico"]
)
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    """404 in JSON."""
    async with raw_connection(api.port) as connection:
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

        assert (await connection.answer()).is_error(404, "not found")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ALLOWED = {
    "/tasks": {"GET", "HEAD", "POST"},
    "/tasks/1": {"GET", "HEAD", "DELETE"},
    "/tasks/batch": {"GET", "HEAD", "POST", "DELETE"},
    "/livez": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
}


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for path in ALLOWED for method in METHODS if method not in ALLOWED[path]]
)
async def test_an_unknown_method_is_told_those_that_there_are(api: Api, method: str, path: str) -> None:
    """405 in JSON, with Allow."""
    async with raw_connection(api.port) as connection:
        await connection.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        answer = await connection.answer()

    assert answer.is_error(405, "method not allowed")
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == ALLOWED[path]


async def test_an_expectation_that_nobody_can_meet_is_refused(api: Api) -> None:
    """417 in JSON: what the framework answers by itself is answered in our form."""
    answer = await api.http.post({"action": "a"}, Expect="magic")

    assert answer.is_error(417, "the Expect header can only ask for 100-continue")


async def test_a_client_may_ask_before_it_sends_its_body(api: Api) -> None:
    """Expect: 100-continue, as curl sends it before large bodies."""
    async with raw_connection(api.port) as connection:
        await connection.send(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.answer()).status == 100

        await connection.send(b'{"action":"x"}')

        assert (await connection.answer()).status == 202


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_an_offer_of_another_protocol_is_not_taken_up(api: Api, protocol: str) -> None:
    """With curl --http2 each request comes with such an offer, and is served over HTTP/1.1."""
    upgrade = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
    async with raw_connection(api.port) as connection:
        await connection.send(
            f'POST /tasks HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Length: 14\r\n\r\n{{"action":"x"}}'.encode()
        )

        assert (await connection.answer()).status == 202


@pytest.mark.parametrize(("method", "path", "body", "status"), EVERY_STATUS)
async def test_every_answer_carries_the_same_headers(
    api: Api, method: str, path: str, body: bytes | None, status: int
) -> None:
    """JSON that no browser takes for anything else, a request id, and no word on the software behind it."""
    answer = await api.http.ask(method, path, body)

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert UUID(answer.headers["X-Request-ID"]).version == 4
    assert "Server" not in answer.headers


@pytest.mark.parametrize("sent", ["a", "A-Za_z.09~:/+=@", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "x" * 128])
async def test_a_safe_request_id_comes_back(api: Api, sent: str) -> None:
    """A client finds its own id in the answer, and an operator finds it in the log."""
    answer = await api.http.get("/livez", X_Request_ID=sent)

    assert answer.headers["X-Request-ID"] == sent
    assert [entry["request_id"] for entry in api.reports(events.REQUEST_SERVED)] == [sent]


@pytest.mark.parametrize(
    "sent", ["", "x" * 129, "a b", "a\tb", 'a"b', "{a}", "a;b", "a,b", "\u00fc", "<script>", "%0d%0a"]
)
async def test_an_unsafe_request_id_is_replaced(api: Api, sent: str) -> None:
    """Nothing that could break a log or a page goes in or out."""
    async with raw_connection(api.port) as connection:
        await connection.send(f"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: {sent}\r\n\r\n".encode())
        answer = await connection.answer()

    assert UUID(answer.headers["X-Request-ID"]).version == 4
    [entry] = api.reports(events.REQUEST_SERVED)
    assert entry["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("sent", [b"a\r\n b", b"a\rb", b"a\nb", b"a\x00b", b"a\x0bb"])
async def test_a_request_id_that_breaks_its_line_is_no_http(api: Api, sent: bytes) -> None:
    """No header can be smuggled into the answer by way of the id."""
    async with raw_connection(api.port) as connection:
        await connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: " + sent + b"\r\n\r\n")
        answer = await connection.answer()

    assert answer.status == 400
    assert UUID(answer.headers["X-Request-ID"]).version == 4


@pytest.mark.parametrize(("method", "path", "body", "status"), EVERY_STATUS)
async def test_every_request_is_one_line_in_the_log(
    api: Api, method: str, path: str, body: bytes | None, status: int
) -> None:
    """Who asked for what, what was answered, how much and how long."""
    answer = await api.http.ask(method, path, body)

    [entry] = api.reports(events.REQUEST_SERVED)
    assert (entry["method"], entry["status"], entry["client"]) == (method, status, "127.0.0.1")
    assert entry["request_id"] == answer.headers["X-Request-ID"]
    assert entry["bytes"] >= len(answer.body)
    assert entry["duration"] >= 0


async def test_a_request_that_fails_is_one_line_too(api: Api) -> None:
    """A 500 has its line beside the one that says why, under the same id."""
    change(api.database, "DROP TABLE tasks")

    answer = await api.http.get("/tasks")

    [served], [failed] = api.reports(events.REQUEST_SERVED), api.reports(events.REQUEST_FAILED)
    assert served["status"] == 500
    assert served["request_id"] == failed["request_id"] == answer.headers["X-Request-ID"]


async def test_the_log_names_the_route_and_not_the_path(api: Api) -> None:
    """What a client writes into a path, such as an id, is none of the log's business."""
    await api.http.get(f"/tasks/{SECRET}")
    await api.http.get(f"/{SECRET}?{SECRET}")

    assert [entry.get("route") for entry in api.reports(events.REQUEST_SERVED)] == ["/tasks/{id}", None]


async def test_nothing_that_a_client_sends_is_logged(api: Api) -> None:
    """Neither data nor action, neither query nor header, whether the request was good or bad."""
    good = json.dumps({"action": SECRET, "data": {SECRET: SECRET}}).encode()
    for body in (good, good[:-1], b'["' + SECRET.encode() + b'"]'):
        await api.http.post(body, Authorization=SECRET)
    await api.http.get(f"/tasks?status={SECRET}")
    change(api.database, "DROP TABLE tasks")
    await api.http.post(good)

    assert len(api.reports(events.REQUEST_SERVED)) == 5
    assert SECRET not in str(api.log)
