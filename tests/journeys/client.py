"""A client as users write them: plain HTTP, and patience."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.support.eventually import eventually


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
