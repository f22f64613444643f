"""Who works, and on what."""

from collections.abc import Mapping, Sequence

from taskqueue.store import roster
from taskqueue.store.doors.door import Door


class Enrolling(Door):
    """Who works, and on what."""

    async def enter_worker(
        self, name: str, started_at: int, concurrency: int, actions: Mapping[str, roster.OfferedAction]
    ) -> None:
        """Enters a worker that started at `started_at` (ms) in the roster, with the actions that it offers."""
        await self._write(roster.enter, roster.Entry(name, started_at, self._clock(), concurrency, actions))

    async def keep_worker(self, name: str, started_at: int) -> bool:
        """Notes that a worker is there; False where the roster has no such entry."""
        return await self._write(roster.keep, roster.Presence(name, started_at, self._clock()))

    async def remove_worker(self, name: str, started_at: int) -> None:
        """Removes a worker that stops from the roster."""
        await self._write(roster.leave, roster.Presence(name, started_at, self._clock()))

    async def roll_call(self) -> frozenset[tuple[str, int]]:
        """Name and `started_at` (ms) of every live worker."""
        return await self._read(lambda connection: roster.roll_call(connection, self._clock()))

    async def live_workers(self) -> Sequence[roster.LiveWorker]:
        """The live workers, by name, and what they offer."""
        return await self._read(lambda connection: roster.live_workers(connection, self._clock()))

    async def running_by_worker(self) -> Mapping[str, Sequence[str]]:
        """The ids of running tasks by the name of their worker."""
        return await self._read(roster.running_by_worker)
