"""Thousands of connections to the real process: health is answered, tasks are accepted, memory is bounded."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from taskqueue import events
from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.ports import free_port
from tests.support.processes import Service

WANTED = 5_000
AT_LEAST = 2_000
OURS = 500
"""Files that the test process needs for itself."""

HALF_A_HEADER = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "
ANSWERED_WITHIN_SECONDS = 5
"""Generous: on a machine that does nothing else it is a hundredth of that."""

KIB_EACH = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def affordable() -> Iterator[int]:
    """As many connections as this process can open: 5,000 where the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = WANTED + OURS if hard == resource.RLIM_INFINITY else min(hard, WANTED + OURS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = WANTED if now == resource.RLIM_INFINITY else min(WANTED, now - OURS)
    assert number >= AT_LEAST, f"ulimit -n is {now}: too low for this test"
    yield number
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _start(start_service: StartService, database: Path, **settings: object) -> Service:
    ours = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": f"amqp://127.0.0.1:{free_port()}/", "PORT": 0}
    return start_service("taskqueue_api", **(ours | settings))


def _connect(held: ExitStack, port: int, number: int) -> list[socket.socket]:
    """Connections on which half a header is sent, or nothing at all. One that is reset at once is no fault."""
    lines = []
    for each in range(number):
        line = held.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=30)))
        if each % 2:
            try:
                line.send(HALF_A_HEADER)
            except ConnectionError:
                continue
        lines.append(line)
    return lines


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def _still_served(http: Http) -> None:
    for _ in range(10):
        begun = time.monotonic()
        assert (await http.get("/readyz")).status == 200
        await http.submitted("a")
        assert time.monotonic() - begun < ANSWERED_WITHIN_SECONDS


async def test_with_thousands_of_idle_connections_work_goes_on(
    start_service: StartService, database: Path, affordable: int
) -> None:
    """All are held, each at a modest price, and new clients are served beside them."""
    service = _start(start_service, database, MAX_CONNECTIONS=affordable + 100)
    url = await service.url()
    async with http_client(url) as http:
        await _still_served(http)
        before = psutil.Process(service.pid).memory_info().rss
        with ExitStack() as held:
            await asyncio.to_thread(_connect, held, _port(url), affordable)
            await eventually(lambda: _sockets(service) >= affordable, what="all connections")
            await _still_served(http)
            grown = psutil.Process(service.pid).memory_info().rss - before

            assert grown < affordable * KIB_EACH * 1024
        await eventually(lambda: _sockets(service) < 100, within=60, what="the end of all connections")
        await _still_served(http)

    service.terminate()
    assert await service.ended() == 0
    assert service.outbursts == []


async def test_beyond_the_bound_idle_connections_make_room(
    start_service: StartService, database: Path, affordable: int
) -> None:
    """The newest clients are served, and no more are held than the setting says."""
    service = _start(start_service, database, MAX_CONNECTIONS=300)
    url = await service.url()
    with ExitStack() as held:
        await asyncio.to_thread(_connect, held, _port(url), affordable // 2)
        await eventually(lambda: _sockets(service) <= 330, what="the bound")
        async with http_client(url) as http:
            await _still_served(http)

    assert service.reports(events.REQUEST_FAILED) == []


@pytest.fixture
def _no_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is started finds asyncio's own event loop alone."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "uvloop.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.usefixtures("_no_uvloop")
async def test_asyncios_own_loop_takes_thousands_too(start_service: StartService, database: Path) -> None:
    """With a limit on open files that it finds out about on its way."""
    await _test_few_open_files(_start(start_service, database), late=True)


@pytest.mark.parametrize("late", [False, True], ids=["known at the start", "found out"])
async def test_with_few_open_files_it_serves_and_recovers(
    start_service: StartService, database: Path, late: bool
) -> None:
    """Whenever the limit is set."""
    await _test_few_open_files(_start(start_service, database), late=late)


async def _test_few_open_files(service: Service, *, late: bool) -> None:
    """`ulimit -n 200`, or 120 at once: it keeps away from the limit, and never runs into EMFILE."""
    if not late:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (200, 200))
    url = await service.url()
    if late:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (120, 120))
    with ExitStack() as held:
        await asyncio.to_thread(_connect, held, _port(url), 600)
        async with http_client(url) as http:
            await _still_served(http)
        await asyncio.sleep(1)
        spent = psutil.Process(service.pid).cpu_times().user
        await asyncio.sleep(2)
        assert psutil.Process(service.pid).cpu_times().user - spent < 1.5  # it does not turn in a circle
    async with http_client(url) as http:
        await _still_served(http)
    service.terminate()
    assert await service.ended() == 0
    assert "out of system resource" not in service.said


def _sockets(service: Service) -> int:
    return psutil.Process(service.pid).num_fds()
