"""A client as users write them: plain HTTP, and patience."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from tests.support.eventually import eventually

PATIENCE: Final = ClientTimeout(total=40)


@dataclass(frozen=True)
class Answer:
    """What came back: `body` as JSON, None where there is none; `links` by their relation."""

    status: int
    headers: Mapping[str, str]
    body: Any
    links: Mapping[str, str]


class Client:
    """Posts tasks and reads them back."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def post(self, action: str, data: Mapping[str, Any]) -> str:
        """The id of a new task."""
        async with self._session.post("/tasks", json={"action": action, "data": data}) as response:
            assert response.status == 202, await response.text()
            return cast("str", (await response.json())["id"])

    async def refused(self, action: str, data: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and body of the answer to a task that is not accepted."""
        async with self._session.post("/tasks", json={"action": action, "data": data}) as response:
            return response.status, await response.json()

    async def send(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Whatever is answered."""
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers, timeout=PATIENCE) as response:
            text = await response.text()
            links = {relation: URL(link["url"]).path_qs for relation, link in response.links.items()}
            return Answer(response.status, response.headers, json.loads(text) if text else None, links)

    async def events(self, path: str, *, headers: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Every event of a stream that ends by itself: its id, and its data."""
        async with self._session.get(path, headers=headers, timeout=PATIENCE) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            blocks = (await response.text()).replace("\r\n", "\n").split("\n\n")
        told = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in blocks]
        return [{"id": event["id"], "data": json.loads(event["data"])} for event in told if "data" in event]

    async def post_with_patience(self, action: str, data: Mapping[str, Any], *, within: float = 60) -> str:
        """The id of a new task; asks again while the API is away."""
        async with asyncio.timeout(within):
            while True:
                try:
                    return await self.post(action, data)
                except (ClientError, TimeoutError):
                    await asyncio.sleep(0.2)

    async def get(self, path: str) -> Any:
        """What a path answers with 200."""
        async with self._session.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def task(self, task_id: str) -> Any:
        """A task as it is now."""
        return await self.get(f"/tasks/{task_id}")

    async def finished(self, task_id: str, *, within: float = 30) -> Any:
        """A task when it is final."""

        async def final() -> Any:
            task = await self.task(task_id)
            return task if task["status"] in ("completed", "failed", "cancelled") else None

        return await eventually(final, within=within, what=f"the end of task {task_id}")


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    """A client of the API at `url`."""
    async with ClientSession(url, timeout=ClientTimeout(total=10)) as session:
        yield Client(session)
