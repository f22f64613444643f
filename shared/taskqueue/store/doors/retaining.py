"""What is finished and old goes."""

from collections.abc import Sequence

from taskqueue.store import removal
from taskqueue.store.doors.door import Door


class Retaining(Door):
    """What is finished and old goes."""

    async def look_for_old(self, after: int, before: int) -> removal.Old:
        """See `removal.look_for_old`."""
        return await self._read(lambda connection: removal.look_for_old(connection, after, before))

    async def remove_old(self, ids: Sequence[str], before: int) -> removal.Removed:
        """Deletes those of these tasks that are finished and had ended before `before` (ms)."""
        return await self._write(removal.remove_old, removal.Removal(ids, before))

    async def last_change_before(self, before: int, limit: int) -> int | None:
        """See `removal.last_before`."""
        now = self._clock()
        return await self._read(lambda connection: removal.last_before(connection, before, limit, now=now))

    async def forget_changes(self, last: int) -> removal.Removed:
        """Deletes what became of tasks, up to and including the change `last`."""
        return await self._write(removal.forget_changes, last)
