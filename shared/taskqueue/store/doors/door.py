"""What every door is: a way to the one group-commit writer, and to the pool of readers."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskqueue.clock import Clock, Elapsed
from taskqueue.store.doubt import Doubt
from taskqueue.store.faults import store_errors
from taskqueue.store.writer import BatchedWrite, GroupCommitWriter

MOST_BACK_US: Final = 3_600_000_000
"""A clock that is set back by less does not set back the order of acceptance; one by more has been wrong until now."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Door:
    """A part of what the store does: it writes through one writer, and reads through a pool."""

    def __init__(self, writer: GroupCommitWriter, readers: AsyncEngine, clock: Clock, elapsed: Elapsed) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._last_stamp = 0
        self._doubt = Doubt(clock, elapsed)

    async def _write(self, write: BatchedWrite[Item, Answer], item: Item) -> Answer:
        [answer] = await self._writer.run(write, [item])
        return answer

    async def _read(self, query: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        with store_errors():
            async with self._readers.connect() as connection:
                return await query(connection)

    def _stamp(self) -> int:
        now = self._clock() * 1000
        follows = self._last_stamp + 1 if self._last_stamp < now + MOST_BACK_US else 0
        self._last_stamp = max(now, follows)
        return self._last_stamp
