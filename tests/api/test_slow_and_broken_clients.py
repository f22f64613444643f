"""Clients that are silent, slow, gone or hostile: each costs a connection for a bounded time, and no more."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import pytest

from taskqueue import events
from taskqueue_api import protocol, requests, server
from tests.api.conftest import Api
from tests.support.database import rows, write_locked
from tests.support.eventually import eventually
from tests.support.http import raw_connection

GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST_HEAD = b"POST /tasks HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = "not a valid HTTP request, or its headers are too large"

BOUND_SECONDS = 30


@pytest.fixture
def _little_idling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on silence is as in production, only shorter."""
    monkeypatch.setattr(server, "IDLE_TIMEOUT_SECONDS", 0.7)


@pytest.fixture
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds on a body are as in production, only shorter."""
    monkeypatch.setattr(server, "LINGERING_SECONDS", 0.1)
    monkeypatch.setattr(requests, "BODY_TIMEOUT_SECONDS", 0.3)


def test_every_shipped_bound_is_within_half_a_minute() -> None:
    """What the tests below shorten is short enough as it is delivered."""
    assert server.IDLE_TIMEOUT_SECONDS <= BOUND_SECONDS
    assert requests.BODY_TIMEOUT_SECONDS + server.LINGERING_SECONDS <= BOUND_SECONDS


@pytest.mark.usefixtures("_little_idling")
@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Half: "], ids=repr
)
async def test_a_client_that_never_finishes_its_headers_is_cut_off(api: Api, sent: bytes) -> None:
    """Silence, and half a header, end in a closed connection."""
    async with raw_connection(api.port) as connection:
        await connection.send(sent)

        assert await connection.rest() == b""


@pytest.mark.usefixtures("_little_idling")
async def test_headers_that_trickle_in_are_cut_off(api: Api) -> None:
    """Being slow is no way around the bound: it counts from the first byte."""
    async with raw_connection(api.port) as connection:
        await connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        trickling = asyncio.create_task(_trickle(connection.send, b"X-Slow: x\r\n"))

        assert await connection.rest() == b""
        trickling.cancel()


@pytest.mark.usefixtures("_little_idling")
async def test_a_connection_is_closed_when_it_is_idle_after_a_request(api: Api) -> None:
    """Keep-alive is kept for a while, and not for ever."""
    async with raw_connection(api.port) as connection:
        await connection.send(GET_LIVEZ)
        assert (await connection.answer()).status == 200

        assert await connection.rest() == b""


@pytest.mark.usefixtures("_little_idling")
async def test_half_a_header_after_a_request_is_cut_off(api: Api) -> None:
    """A client cannot buy time with one good request."""
    async with raw_connection(api.port) as connection:
        await connection.send(GET_LIVEZ + b"GET /livez HTT")
        assert (await connection.answer()).status == 200

        assert await connection.rest() == b""


@pytest.mark.usefixtures("_little_patience")
@pytest.mark.parametrize(
    "sent",
    [
        b'Content-Length: 14\r\n\r\n{"act',
        b"Content-Length: 14\r\n\r\n",
        b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"act\r\n',
        b"Transfer-Encoding: chunked\r\n\r\n5",
    ],
    ids=["half a body", "no body", "half its chunks", "half a chunk"],
)
async def test_a_client_that_never_finishes_its_body_is_told_so_and_cut_off(api: Api, sent: bytes) -> None:
    """408 in JSON, and then the connection is closed; nothing is recorded."""
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + sent)
        answer = await connection.answer()

        assert answer.is_error(408, "the body did not arrive in time")
        assert await connection.rest() == b""
    assert rows(api.database, "SELECT * FROM tasks") == []


@pytest.mark.usefixtures("_little_patience")
async def test_a_body_that_trickles_in_is_cut_off(api: Api) -> None:
    """A byte now and then does not move the deadline."""
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + b"Content-Length: 100000\r\n\r\n")
        trickling = asyncio.create_task(_trickle(connection.send, b" "))

        assert (await connection.answer()).status == 408
        trickling.cancel()


async def test_a_client_that_does_not_read_its_answers_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not read in time is dropped, and what it still asked for is not carried out."""
    assert protocol.WRITE_SECONDS <= 2 * BOUND_SECONDS
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.3)
    for _ in range(3):
        await api.http.submitted("a", {"text": "x" * 900_000})
    async with raw_connection(api.port) as connection:
        await connection.send(b"GET /tasks HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
        await eventually(lambda: any(entry["duration"] > 300 for entry in _lists(api)), what="the end of its patience")
        await asyncio.sleep(0.5)

        assert len(_lists(api)) < 30
        await connection.rest()
    assert (await api.http.get("/livez")).status == 200
    assert api.reports(events.REQUEST_FAILED) == []


async def test_a_client_that_leaves_within_its_body_leaves_nothing(api: Api) -> None:
    """Half a request is no task, and no fault of ours: no traceback is logged, and nothing breaks."""
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + b'Content-Length: 14\r\n\r\n{"act')
        connection.cut()
        [entry] = await eventually(lambda: api.reports(events.REQUEST_SERVED), what="the request's line in the log")

    assert entry["status"] == 400
    assert api.reports(events.REQUEST_FAILED) == []
    assert rows(api.database, "SELECT * FROM tasks") == []
    assert (await api.http.get("/livez")).status == 200


async def test_a_client_that_leaves_before_its_answer_leaves_a_whole_task(api: Api) -> None:
    """A request that was read is carried out: the row is whole, and dispatched like any other."""
    async with raw_connection(api.port) as connection:
        with write_locked(api.database):
            await connection.send(POST_HEAD + b'Content-Length: 14\r\n\r\n{"action":"x"}')
            await eventually(lambda: api.collaborators.store._last_stamp, what="the request reaches the store")
            connection.cut()

    await eventually(lambda: rows(api.database, "SELECT id FROM tasks"), what="the row")
    [task] = (await api.http.get("/tasks")).json["tasks"]
    assert (task["payload"]["action"], task["status"]) == ("x", "pending")


@pytest.mark.parametrize("cut_after", [0, 1, 20, 60, 70, 80])
async def test_wherever_a_client_is_cut_off_a_task_is_whole_or_not_there(api: Api, cut_after: int) -> None:
    """Never half a row, wherever the connection breaks."""
    request = POST_HEAD + b'Content-Length: 28\r\n\r\n{"action":"x","data":{"a":1}}'[:28]
    async with raw_connection(api.port) as connection:
        await connection.send(request[:cut_after])
        connection.cut()

    assert (await api.http.get("/tasks")).status == 200
    for task in (await api.http.get("/tasks")).json["tasks"]:
        assert task["payload"]["data"] == {"a": 1}


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    """Several requests in one packet are several requests."""
    async with raw_connection(api.port) as connection:
        post = POST_HEAD + b'Content-Length: 14\r\n\r\n{"action":"x"}'
        await connection.send(GET_LIVEZ + post + b"GET /tasks HTTP/1.1\r\nHost: x\r\n\r\n" + post)

        statuses = [(await connection.answer()).status for _ in range(4)]

    assert statuses == [200, 202, 200, 202]


async def test_a_body_that_was_refused_is_not_read_as_the_next_request(api: Api) -> None:
    """What a client sends beyond the limit is not carried out, whatever it says."""
    smuggled = POST_HEAD + b'Content-Length: 14\r\n\r\n{"action":"x"}'
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 1_500_000 + smuggled)

        assert (await connection.answer()).status == 413
    assert rows(api.database, "SELECT * FROM tasks") == []


SMUGGLED = b'0\r\n\r\nPOST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"action":"x"}'

AMBIGUOUS = {
    "both": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "a length with a sign": b"Content-Length: +4\r\n\r\n",
    "a negative length": b"Content-Length: -4\r\n\r\n",
    "two lengths in one": b"Content-Length: 4, 4\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "not chunked in the end": b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n",
    "a folded header": b"Transfer-Encoding:\r\n chunked\r\n\r\n",
}


@pytest.mark.parametrize("framing", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_a_request_of_ambiguous_length_is_refused(api: Api, framing: bytes) -> None:
    """What a proxy might read otherwise than we do is read by nobody: 400, closed, and nothing recorded."""
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + framing + SMUGGLED)
        answer = await connection.answer()

        assert answer.is_error(400, NOT_HTTP)
        assert await connection.rest() == b""
    assert rows(api.database, "SELECT * FROM tasks") == []


MALFORMED = {
    "a word": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "binary": b"\x00\xff\xfe\r\n\r\n",
    "a bad method": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unheard-of method": b"BREW /tasks HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "a bad URL": b"GET http://[::1/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte that no path has": b"GET /tasks/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long path": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(200)) + b"\r\n",
    "a bad chunk": POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_http_is_answered_like_everything_else(
    api: Api, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """400 in our form, with our headers and one line in the log; what was sent is quoted nowhere."""
    async with raw_connection(api.port) as connection:
        await connection.send(sent)
        answer = await connection.answer()

        assert answer.is_error(400, NOT_HTTP)
        assert await connection.rest() == b""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers
    [entry] = api.reports(events.REQUEST_SERVED)
    assert (entry["status"], entry["request_id"]) == (400, answer.headers["X-Request-ID"])
    assert caplog.records == []


@pytest.mark.usefixtures("_little_patience")
async def test_chunks_that_go_wrong_on_their_way_are_refused(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """A body that breaks after its headers were read never comes to its end: 408, and no fault of ours."""
    async with raw_connection(api.port) as connection:
        await connection.send(POST_HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.answer()).status == 100
        await connection.send(b'5\r\n{"act\r\nZZ\r\nion\r\n')

        assert (await connection.answer()).status == 408
    assert api.reports(events.REQUEST_FAILED) == []
    assert caplog.records == []
    assert rows(api.database, "SELECT * FROM tasks") == []


def _lists(api: Api) -> list[MutableMapping[str, Any]]:
    return [entry for entry in api.reports(events.REQUEST_SERVED) if entry["method"] == "GET"]


async def _trickle(send: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            await send(data)
            await asyncio.sleep(0.05)
