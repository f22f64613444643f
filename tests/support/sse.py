"""Reading a stream of server-sent events, as a browser's EventSource does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout


@dataclass(frozen=True)
class Told:
    """One event."""

    id: int
    data: dict[str, Any]
    name: str = "task"

    @property
    def status(self) -> str:
        """The status that the task has come to."""
        return str(self.data["status"])


@dataclass
class Events:
    """A stream that is open."""

    response: ClientResponse
    comments: int = 0
    last_id: str = ""
    retry: str = ""
    _fields: dict[str, str] = field(default_factory=dict)

    async def next(self, *, within: float = 15) -> Told | None:
        """The next event, or None at the end of the stream; TimeoutError where neither comes."""
        async with asyncio.timeout(within):
            while line := (await self.response.content.readline()).decode():
                if told := self._read(line.rstrip("\n")):
                    return told
        return None

    async def rest(self, *, within: float = 15) -> list[Told]:
        """All events until the stream ends."""
        async with asyncio.timeout(within):
            told = []
            while event := await self.next(within=within):
                told.append(event)
            return told

    def _read(self, line: str) -> Told | None:
        name, _, value = line.partition(": ")
        if line:
            self.comments += line.startswith(":")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        self.last_id = fields.get("id", self.last_id)
        self.retry = fields.get("retry", self.retry)
        if "data" not in fields:
            return None
        assert fields["event"] in ("task", "gap")
        return Told(int(self.last_id), json.loads(fields["data"]), fields["event"])


@asynccontextmanager
async def listening(url: str, **headers: str) -> AsyncIterator[Events]:
    """The stream at `url`; a header's name is written with underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with ClientSession(timeout=ClientTimeout(total=60)) as session, session.get(url, headers=sent) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Events(response)
