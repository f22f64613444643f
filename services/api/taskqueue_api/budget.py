"""How much of what clients send may be at work at once, and how many of them may wait for something to happen.

A body is many times as large in memory as on the wire.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class ByteBudget:
    """A number of bytes to share. Who finds too few left waits for its turn, in order."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Has `size` bytes of the budget, which must be no larger, for as long as the block runs."""
        if self._waiting or size > self._free:
            await self._turn(size)
        else:
            self._free -= size
        try:
            yield
        finally:
            self._give_back(size)

    async def _turn(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(size)
            raise

    def _give_back(self, size: int) -> None:
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


class Seats:
    """A number of places. Who finds none left does not wait for one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[bool]:
        """Has a place for as long as the block runs; False where none is left."""
        if self.taken >= self.number:
            yield False
            return
        self.taken += 1
        try:
            yield True
        finally:
            self.taken -= 1
