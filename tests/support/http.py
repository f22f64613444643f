"""Asking over HTTP, and reading the whole answer; and speaking to a socket where HTTP clients are too polite."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout

from tests.support.eventually import eventually

FINAL: Final = ("completed", "failed", "cancelled")
ASK_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a JSON value; fails where it is none, or is not called so."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    def is_error(self, status: int, sentence: str) -> bool:
        """Whether this is the one form of every error."""
        return (self.status, self.json) == (status, {"error": sentence})


class Http:
    """A client of one API."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """The answer to one request; a header's name is written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = BytesIO(body) if body is not None else None
        async with self._session.request(method, path, data=content, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        """The answer to a GET."""
        return await self.ask("GET", path, None, **headers)

    async def post(self, body: object, **headers: str) -> Answer:
        """The answer to `POST /tasks` with a body: bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", "/tasks", content, **headers)

    async def submitted(self, action: str, data: Mapping[str, Any] | None = None) -> str:
        """The id of a task that was accepted."""
        answer = await self.post({"action": action, "data": data or {}})
        assert answer.status == 202, answer
        task_id: str = answer.json["id"]
        return task_id

    async def task(self, task_id: str) -> Any:
        """A task as it is now."""
        answer = await self.get(f"/tasks/{task_id}")
        assert answer.status == 200, answer
        return answer.json

    async def finished(self, task_id: str, *, within: float = 30) -> Any:
        """A task once it is final."""

        async def final() -> Any:
            task = await self.task(task_id)
            return task if task["status"] in FINAL else None

        return await eventually(final, within=within, what=f"the end of task {task_id}")

    async def readiness(self) -> int:
        """The status of `/readyz`; 0 where nobody listens."""
        try:
            return (await self.get("/readyz")).status
        except ClientConnectionError:
            return 0


@asynccontextmanager
async def http_client(url: str) -> AsyncIterator[Http]:
    """A client of the API at `url`."""
    async with ClientSession(url, timeout=ClientTimeout(total=ASK_SECONDS)) as session:
        yield Http(session)


class RawConnection:
    """A connection on which a test says exactly what it wants to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, within: float = 15) -> Answer:
        """The next whole answer."""
        async with asyncio.timeout(within):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, headers = _parse(head)
            return Answer(status, headers, await self._reader.readexactly(int(headers.get("Content-Length", 0))))

    async def rest(self, *, within: float = 15) -> bytes:
        """Everything that still comes until the other side closes; TimeoutError where it does not."""
        async with asyncio.timeout(within):
            with suppress(ConnectionResetError):
                return await self._reader.read()
            return b""

    def cut(self) -> None:
        """Ends the connection at once, with a reset, as a client that crashes does."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[RawConnection]:
    """A connection to the loopback interface."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode().rstrip().split("\r\n")
    return int(first.split()[1]), {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
