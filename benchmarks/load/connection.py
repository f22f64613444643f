"""One keep-alive HTTP/1.1 connection, as cheap as asyncio allows: bytes in, status and body out."""

import asyncio
from typing import Final, cast

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Connection(asyncio.Protocol):
    """Sends one request at a time. Every answer needs a Content-Length, which all the contenders send."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """A connection to the loopback interface. Raises OSError where nobody listens."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The answer's status and body. Raises ConnectionError where the other side closes first."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(_END_OF_HEAD)
        if head < 0 or self._answer is None:
            return
        start = head + len(_END_OF_HEAD)
        end = start + _content_length(self._buffer[:head].lower())
        if len(self._buffer) >= end:
            status, body = int(self._buffer[9:12]), self._buffer[start:end]
            self._buffer = self._buffer[end:]
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the connection was closed"))


def _content_length(head: bytes) -> int:
    at = head.find(_LENGTH)
    if at < 0:
        return 0
    return int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])


def post(body: bytes) -> bytes:
    """The bytes of `POST /tasks`."""
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
