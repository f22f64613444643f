"""What clients see of tasks."""

from taskqueue.schema import Task
from taskqueue.store import pages, reads
from taskqueue.store.doors.door import Door
from taskqueue.store.standing import Standing, standing


class Reading(Door):
    """What clients see of tasks."""

    async def find(self, task_id: str) -> Task | None:
        """The task, if it is known."""
        return await self._read(lambda connection: reads.find(connection, task_id))

    async def page(
        self, wanted: pages.Wanted = pages.EVERYTHING, limit: int = pages.PAGE, after: pages.Position | None = None
    ) -> pages.Page:
        """The newest of the tasks that are wanted, newest first, from `after` on; see `pages`."""
        return await self._read(lambda connection: pages.page(connection, wanted, limit, after))

    async def stretch(self, wanted: pages.Wanted, limit: int, after: pages.Position | None = None) -> pages.Stretch:
        """The ids of the newest of the tasks that are wanted, newest first, from `after` on; see `pages`."""
        return await self._read(lambda connection: pages.stretch(connection, wanted, limit, after))

    async def waiting(self, limit: int) -> int:
        """How many tasks are pending or queued, counted up to `limit`."""
        return await self._read(lambda connection: reads.waiting(connection, limit))

    async def standing(self, task_id: str) -> Standing | None:
        """Where a task stands, and among what, if it is known."""
        return await self._read(lambda connection: standing(connection, task_id, self._clock()))
