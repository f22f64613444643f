"""Results kept by asyncio code: one connection in one thread, as aiosqlite's own documentation shows it."""

from typing import Any

from benchmarks.contenders.apps.work import BUSY_TIMEOUT_SECONDS, RECORD, RESULTS, SYNCHRONOUS, row, use_one_sqlite

use_one_sqlite()

import aiosqlite  # noqa: E402


class Results:
    """The file of results, once it is open."""

    _connection: aiosqlite.Connection

    async def open(self) -> None:
        """Opens the file."""
        self._connection = await aiosqlite.connect(RESULTS, timeout=BUSY_TIMEOUT_SECONDS)
        await self._connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")

    async def record(self, task_id: str, result: dict[str, Any]) -> None:
        """Keeps the result; it is committed when this returns, with whatever else ran on the connection."""
        await self._connection.execute(RECORD, row(task_id, result))
        await self._connection.commit()

    async def close(self) -> None:
        """Closes the file."""
        await self._connection.close()
