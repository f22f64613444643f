"""What is finished and old goes, in chunks that are so small that nobody notices.

Any API or worker process does it; two that do it at once do no harm, since what is gone is gone.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Final

from taskqueue import events
from taskqueue.clock import Clock, milliseconds
from taskqueue.errors import StoreError
from taskqueue.store.doors.retaining import Retaining
from taskqueue.store.pace import Pace
from taskqueue.store.removal import MAX_CHARACTERS, Removed

RETENTION_SECONDS: Final = 60.0
DAY_SECONDS: Final = 86_400
HOLD_SECONDS: Final = 0.008
"""How long a chunk should hold the writer: its commit comes on top, and together they must stay below 50 ms."""

REST_SECONDS: Final = 0.02
"""Between two chunks, for everybody else."""


class Retention:
    """Keeps finished tasks for so many days, and what became of tasks for a day at most; 0 keeps tasks for ever."""

    def __init__(self, store: Retaining, clock: Clock, days: float) -> None:
        self._store = store
        self._clock = clock
        self._days = days
        self._pace = Pace(HOLD_SECONDS)

    async def run(self) -> None:
        """Removes what is old, about once a minute, until cancelled."""
        while True:
            await asyncio.sleep(RETENTION_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter needs no secrecy
            try:
                await self.remove_old()
            except StoreError as error:
                events.emit(events.RETENTION_FAILED, reason=str(error))

    async def remove_old(self) -> None:
        """Removes all that is old by now."""
        tasks = await self._remove_tasks() if self._days else 0
        changes = await self._forget_changes()
        if tasks or changes:
            events.emit(events.REMOVED_OLD, tasks=tasks, changes=changes)

    async def _remove_tasks(self) -> int:
        before = self._ago(self._days)
        removed = 0
        after: int | None = 0
        while after is not None:
            old = await self._store.look_for_old(after, before)
            for ids in _chunks(old.finished, self._pace):
                removed += await self._paced(await self._store.remove_old(ids, before))
            after = old.end
        return removed

    async def _forget_changes(self) -> int:
        before = self._ago(min(1.0, self._days or 1.0))
        forgotten = 0
        while (last := await self._store.last_change_before(before, self._pace.rows)) is not None:
            forgotten += await self._paced(await self._store.forget_changes(last))
        return forgotten

    async def _paced(self, removed: Removed) -> int:
        self._pace.note(removed.rows, removed.seconds)
        await asyncio.sleep(REST_SECONDS)
        return removed.rows

    def _ago(self, days: float) -> int:
        return self._clock() - milliseconds(days * DAY_SECONDS)


def _chunks(finished: Sequence[tuple[str, int]], pace: Pace) -> Iterator[list[str]]:
    """The tasks in chunks that the pace allows now, and that are not too large."""
    chunk: list[str] = []
    size = 0
    for task_id, characters in finished:
        if chunk and (len(chunk) >= pace.rows or size + characters > MAX_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(task_id)
        size += characters
    if chunk:
        yield chunk
