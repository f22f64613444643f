"""What is due, lost or left behind is handed out anew."""

from collections.abc import Sequence
from typing import Final

from taskqueue.schema import NORMAL, PRIORITIES
from taskqueue.store import ageing, queueing, reads, schedules, sweeps
from taskqueue.store.doors.door import Door

REQUEUE_LIMIT: Final = 1_000


class Sweeping(Door):
    """What is due, lost or left behind is handed out anew."""

    async def mark_queued(self, dispatched: Sequence[queueing.Dispatched]) -> None:
        """Notes that the broker holds these tasks' messages."""
        await self._writer.run(queueing.mark_queued, dispatched)

    async def take_due(self, lease: int, max_attempts: int, limit: int) -> sweeps.Taken:
        """Takes up to `limit` due tasks for `lease` ms, so that no other sweep takes them too."""
        now = self._clock()  # before the clock is doubted: it may jump at any time
        silent = await self._silent(now) if self._doubt.holds() else None
        if not await self._read(lambda connection: reads.anything_due(connection, now)):
            return sweeps.Taken(ready=[], failed=[])
        return await self._write(sweeps.take_due, sweeps.Due(now, now + lease, max_attempts, limit, silent))

    async def requeue_lost(self, made_before: int, priority: int = NORMAL) -> int:
        """Makes queued tasks of a priority due whose message was made before `made_before` (ms); answers how many."""
        requeued = 0
        while found := await self._requeue(priority, made_before, REQUEUE_LIMIT):
            requeued += found
        return requeued

    async def recall(self, limit: int) -> int:
        """Makes up to `limit` queued tasks due, wherever their messages are: high ones first, then the oldest."""
        recalled = 0
        for priority in PRIORITIES:
            recalled += await self._requeue(priority, self._clock() + 1, limit - recalled)
        return recalled

    async def raise_held_back(self, made_before: int, limit: int) -> int:
        """Makes up to `limit` normal tasks high whose message was made before `made_before` (ms); answers how many."""
        if not await self._read(lambda connection: reads.anything_queued(connection, NORMAL, made_before)):
            return 0
        held_back = ageing.HeldBack(made_before, self._clock(), min(limit, REQUEUE_LIMIT))
        return await self._write(ageing.raise_held_back, held_back)

    async def tick_schedules(self, lease: int) -> Sequence[sweeps.Ready]:
        """Makes the tasks of schedules that are due; they are the caller's to dispatch for `lease` ms."""
        now = self._clock()
        if not await self._read(lambda connection: schedules.anything_ticks(connection, now)):
            return []
        stamps = [self._stamp() for _ in range(schedules.TICKS_AT_ONCE)]
        return await self._write(schedules.tick, schedules.Tick(now, now + lease, stamps))

    async def resume(self) -> int:
        """Makes all that a former process left unfinished due at once. Only while no other process is at work."""
        return await self._write(sweeps.resume, sweeps.Restart(self._clock()))

    async def _silent(self, now: int) -> frozenset[str]:
        return self._doubt.silent(await self._read(lambda connection: reads.expired_leases(connection, now)))

    async def _requeue(self, priority: int, made_before: int, limit: int) -> int:
        if not await self._read(lambda connection: reads.anything_queued(connection, priority, made_before)):
            return 0
        return await self._write(sweeps.requeue_lost, sweeps.Lost(priority, made_before, self._clock(), limit))
