"""Following what becomes of tasks, over one connection that costs next to nothing while the database is quiet."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from taskqueue.store import changes
from taskqueue.store.changes import Event
from taskqueue.store.faults import store_errors
from taskqueue.store.sqlite import data_version, follower_engine

Answer = TypeVar("Answer")


class Follower:
    """One held connection in a thread of its own. Every method raises StoreUnavailable or QueryFailed.

    It is for one caller, which awaits each answer before it asks again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "changes")
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._seen: int | None = None

    async def newest(self) -> int:
        """The place of the newest change; 0 where there is none."""
        return await self._ask(_newest)

    async def after(self, seq: int, limit: int) -> Sequence[Event]:
        """The first changes after `seq`. Must be asked to the end (fewer than `limit`) of each cursor in turn.

        Reads nothing where no other connection has committed since the last answer was complete.
        """
        return await self._ask(lambda connection: self._look(connection, seq, limit))

    async def close(self) -> None:
        """Ends connection and thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown()

    async def _ask(self, question: Callable[[Connection], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def _answer(self, question: Callable[[Connection], Answer]) -> Answer:
        try:
            with store_errors():
                return question(self._connected())
        except BaseException:
            self._let_go()
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            self._engine = follower_engine(self._path)
            self._connection = self._engine.connect()
        return self._connection

    def _let_go(self) -> None:
        self._seen = None
        if self._engine is not None:
            self._engine.dispose()
        self._engine = self._connection = None

    def _look(self, connection: Connection, seq: int, limit: int) -> Sequence[Event]:
        version = data_version(connection)
        if version == self._seen:
            return []
        rows = connection.execute(changes.after(seq, limit)).all()
        if len(rows) < limit:
            self._seen = version
        return [changes.event(row) for row in rows]


def _newest(connection: Connection) -> int:
    return int(connection.execute(changes.NEWEST).scalar_one())
