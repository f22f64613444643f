"""The proxy of the fault runner: what it does to connections, and that no byte is lost by it unless it resets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from faults import proxy

SENT = bytes(range(256)) * 20

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Line:
    """A connection through the proxy to a server that sends everything back."""

    link: proxy.Link
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def echoed(self, within: float = 20) -> bytes:
        """What comes back of SENT."""
        self.writer.write(SENT)
        async with asyncio.timeout(within):
            return await self.reader.readexactly(len(SENT))


@pytest.fixture(name="line")
async def _line(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    link = proxy.Link()
    async with _serving(echo) as upstream, _serving(link.serve) as port:
        monkeypatch.setattr(proxy, "RABBITMQ", ("127.0.0.1", upstream))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield Line(link, reader, writer)
        writer.close()


@pytest.mark.parametrize("toxic", ["none", "slice", "slow"])
async def test_bytes_come_as_they_were_sent(line: Line, toxic: str) -> None:
    """However slowly, and in whatever pieces."""
    line.link.suffer(toxic)

    assert await line.echoed() == SENT


@pytest.mark.parametrize("toxic", ["stall-up", "stall-down"])
async def test_what_is_stalled_comes_when_the_toxic_is_gone(line: Line, toxic: str) -> None:
    """One way hears nothing; nothing is lost, as with TCP itself."""
    line.link.suffer(toxic)
    with pytest.raises(TimeoutError):
        await line.echoed(within=0.3)

    line.link.suffer("none")

    async with asyncio.timeout(20):
        assert await line.reader.readexactly(len(SENT)) == SENT


async def test_a_reset_ends_every_connection_at_once(line: Line) -> None:
    """As a router does that has forgotten them."""
    assert await line.echoed() == SENT

    line.link.suffer("reset")

    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            await line.reader.read()


async def test_without_rabbitmq_a_connection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not left open for ever."""
    async with _serving(proxy.Link().serve) as gone:
        pass
    monkeypatch.setattr(proxy, "RABBITMQ", ("127.0.0.1", gone))
    async with _serving(proxy.Link().serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(20):
                assert await reader.read() == b""
        finally:
            writer.close()


@asynccontextmanager
async def _serving(serve: Serve) -> AsyncIterator[int]:
    connections: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if connections:
            await asyncio.wait(connections, timeout=20)
