"""Whatever comes over a connection to the real process, which works on it: never a 500, never a dead worker."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue import events
from taskqueue_api.app import ROUTES
from tests.support.fuzz import BODIES, NAMES, WORDS
from tests.support.http import http_client
from tests.support.processes import Service, running_service

pytestmark = pytest.mark.timeout(1_800)

PATIENCE_SECONDS = 60
PATHS = [(route.method, route.path) for _, route in ROUTES]
PARAMETERS = ["status", "action", "tag", "since", "until", "limit", "cursor", "last_event_id", "odd"]
HEADERS = [
    "Idempotency-Key", "X-Request-ID", "traceparent", "Prefer", "If-None-Match", "Authorization", "Accept", "Cookie",
    "Content-Type", "Content-Encoding", "Last-Event-ID", "Range", "Origin", "X-Forwarded-For", "Host", "Referer",
]  # fmt: skip

_TEXT = st.sampled_from([word.encode() for word in WORDS]) | st.binary(max_size=20)
_VALUES = st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0"))
_QUERIES = st.lists(st.tuples(st.sampled_from(PARAMETERS), _TEXT), max_size=4)
_IDS = st.sampled_from([b"1", b"batch", b"cancel", b"0b7e5bd6-36a4-4f0f-9f2a-0c9ad5d8a1f2"]) | _TEXT.filter(bool)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is HTTP, and asks for anything."""
    method, path = draw(
        st.sampled_from(PATHS) | st.tuples(st.sampled_from(["PUT", "HEAD", "OPTIONS"]), st.just("/tasks"))
    )
    path = path.replace("{id}", quote_from_bytes(draw(_IDS), safe=""))
    query = "&".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in draw(_QUERIES))
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADERS).map(str.encode), _VALUES), max_size=4))
    body = draw(BODIES) if method in ("POST", "PATCH", "PUT") or draw(st.booleans()) else b""
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1".encode(), b"Host: x", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with a piece of it cut out, put in, or put twice."""
    whole = draw(requests())[:5_000]
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 40)))
    inserted = draw(
        st.binary(max_size=12)
        | st.just(whole[start:end] * 2)
        | st.sampled_from(
            [b"\r\n", b"\n\n", b"\0", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"\xff"]
        )
    )
    return whole[:start] + inserted + whole[end:]


@pytest.fixture(scope="module", name="service")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Embedded mode, at work; when all is done it has reported no fault, and still works."""
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    settings = {"DATABASE_URL": f"sqlite:///{folder}/data/tasks.db", "PORT": 0, "LOG_FORMAT": "json"}
    quick = {"SIMULATED_WORK_SECONDS": 0, "MAX_ATTEMPTS": 1}
    with running_service("taskqueue_embedded", folder, folder / "log", settings | quick) as service:
        yield service
        asyncio.run(_works(service))
        assert service.reports(events.REQUEST_FAILED) == []
        assert service.reports(events.EXECUTION_BROKE) == []
        assert service.outbursts == []


@pytest.fixture(scope="module", name="port")
def _port(service: Service) -> int:
    """Where it listens."""
    return int(asyncio.run(service.url()).rpartition(":")[2])


@given(request=requests())
def test_every_request_has_an_answer_that_is_no_fault(port: int, request: bytes) -> None:
    """Below 500, whatever is asked; and what is refused is refused in the one form."""
    status, body = _answer(port, request, whole=True)

    assert 200 <= status < 500, (status, body)
    if status >= 400 and not request.startswith(b"HEAD"):
        assert list(json.loads(body)) == ["error"]


@given(request=damaged())
def test_whatever_comes_breaks_nothing(port: int, request: bytes) -> None:
    """It is answered below 500, or the connection ends."""
    status, body = _answer(port, request, whole=False)

    assert status < 500, (status, body)


def test_the_names_are_those_of_members() -> None:
    """What is drawn from gets past the first check."""
    assert {"action", "data", "tasks"} <= set(NAMES)


def _answer(port: int, request: bytes, *, whole: bool) -> tuple[int, bytes]:
    """Status and body; 0 where there is no answer. Of a stream only its beginning is waited for."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as line:
        received = b""
        try:
            line.sendall(request)
            if not whole:
                line.shutdown(socket.SHUT_WR)
            while piece := line.recv(1_000_000):
                received += piece
                if b"text/event-stream" in received and b"\r\n\r\n" in received:
                    break
        except ConnectionError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


async def _works(service: Service) -> None:
    async with http_client(await service.url()) as http:
        task = await http.finished(await http.submitted("sum", {"numbers": [1, 2]}), within=120)
        assert (task["status"], task["result"]) == ("completed", {"output": 3})
        assert (await http.get("/readyz")).status == 200
