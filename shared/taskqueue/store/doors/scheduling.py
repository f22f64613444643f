"""Schedules are kept, changed and forgotten."""

from taskqueue.schedule import Schedule
from taskqueue.store import schedules
from taskqueue.store.doors.door import Door
from taskqueue.store.pages import Position


class Scheduling(Door):
    """Schedules are kept, changed and forgotten."""

    async def keep_schedule(self, schedule: schedules.Kept) -> None:
        """Records a new schedule."""
        await self._write(schedules.keep, schedule)

    async def change_schedule(self, was: Schedule, schedule: schedules.Kept) -> bool:
        """Records a schedule anew; False where it is no longer what it `was`, or is gone."""
        return await self._write(schedules.change, schedules.Replacement(was, schedule))

    async def forget_schedule(self, schedule_id: str) -> bool:
        """Deletes a schedule; False where there is none."""
        return await self._write(schedules.forget, schedule_id)

    async def find_schedule(self, schedule_id: str) -> Schedule | None:
        """The schedule, if it is known."""
        return await self._read(lambda connection: schedules.find(connection, schedule_id))

    async def schedules(self, after: Position | None = None) -> schedules.Listed:
        """A page of schedules, oldest first, after that position."""
        return await self._read(lambda connection: schedules.listed(connection, after))
