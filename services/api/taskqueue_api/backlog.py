"""How many tasks wait, and whether there is room for more: known without counting them for each POST.

What this process adds is counted as it comes; what others add and workers take is seen by counting anew, about once a
second, and before anybody is refused.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import hdrs, web

from taskqueue.errors import StoreError

REFRESH_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
SHARE: Final = 20
"""Of this process's time, counting takes one part in so many at most."""

RETRY_AFTER_SECONDS: Final = 5
LAST_COUNT_SECONDS: Final = 2.0

Count = Callable[[int], Awaitable[int]]
"""How many tasks wait, counted no further than to a limit."""


class Backlog:
    """Room for `most` tasks that are pending or queued, in the whole store; 0 is no bound."""

    def __init__(self, count: Count, most: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._count = count
        self._clock = clock
        self._counted = 0
        self._added = 0
        self._being_added = 0
        self._added_before_count = 0
        self._next_count = 0.0
        self._counting = asyncio.Lock()

    @asynccontextmanager
    async def room_for(self, tasks: int) -> AsyncIterator[None]:
        """Room for so many tasks that the block adds. Raises HTTPServiceUnavailable where there is none."""
        if self.most and not self._fits(tasks):
            await self.count()
            if not self._fits(tasks):
                headers = {hdrs.RETRY_AFTER: str(RETRY_AFTER_SECONDS)}
                raise web.HTTPServiceUnavailable(reason="too many tasks wait already", headers=headers)
        self._being_added += tasks
        try:
            yield
        finally:
            # Also where it failed: a commit may have been made all the same, and the next count tells.
            self._being_added -= tasks
            self._added += tasks

    async def count(self) -> None:
        """Counts anew, unless that was done just now. Where it cannot be, what was known holds."""
        async with self._counting:
            begun = self._clock()
            if not self.most or begun < self._next_count:
                return
            added = self._added
            with suppress(StoreError):
                self._counted = await self._count(self.most + 1)
                self._added_before_count = added
            ended = self._clock()
            self._next_count = ended + max(PAUSE_SECONDS, SHARE * (ended - begun))

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Counted when the block begins, and about once a second for as long as it runs, where there is a bound."""
        await self.count()
        ended = asyncio.Event()
        counting = asyncio.create_task(self._keep_fresh(ended), name="count what waits")
        try:
            yield
        finally:
            ended.set()
            # A read that is cut off may leave its connection open: it is let come to its end.
            await asyncio.wait({counting}, timeout=LAST_COUNT_SECONDS)
            counting.cancel()

    async def _keep_fresh(self, ended: asyncio.Event) -> None:
        while self.most and not ended.is_set():
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await ended.wait()
            except TimeoutError:
                await self.count()

    def _fits(self, tasks: int) -> bool:
        since = self._added - self._added_before_count
        return self._counted + since + self._being_added + tasks <= self.most
