"""What runs beside what: attempts begin together, and a suspect, which may kill its worker, begins alone."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class GateClosed(Exception):
    """Nothing more begins here: the worker ends."""


class Gate:
    """Lets up to `capacity` in together, or one alone, in the order in which they came."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._inside = 0
        self._one_is_alone = False
        self._closed = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def passing(self, *, alone: bool) -> AsyncIterator[None]:
        """Waits for admission, and is inside for as long as the block runs. Raises GateClosed."""
        await self._enter(alone)
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Turns away whoever waits and whoever comes; those who are inside stay."""
        self._closed = True
        while self._waiting:
            _, admission = self._waiting.popleft()
            if not admission.done():
                admission.set_exception(GateClosed())

    async def _enter(self, alone: bool) -> None:  # noqa: FBT001 - of this class alone
        if self._closed:
            raise GateClosed
        admission: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, admission))
        self._admit()
        try:
            await admission
        except asyncio.CancelledError:
            if admission.cancelled():
                self._admit()  # whoever waited behind it
            elif admission.exception() is None:
                self._leave()
            raise

    def _leave(self) -> None:
        self._inside -= 1
        self._one_is_alone = False
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            alone, admission = self._waiting[0]
            if not admission.done():
                if self._one_is_alone or self._inside >= (1 if alone else self._capacity):
                    return
                self._inside += 1
                self._one_is_alone = alone
                admission.set_result(None)
            self._waiting.popleft()
