"""What becomes of tasks, change by change."""

from collections.abc import Callable, Sequence
from pathlib import Path

from taskqueue.store import changes, reads
from taskqueue.store.doors.door import Door
from taskqueue.store.following import Follower


class Listening(Door):
    """What becomes of tasks, change by change."""

    async def glance(self, task_id: str) -> reads.Glance | None:
        """Where a task stands, in short, and after which change."""
        return await self._read(lambda connection: reads.glance(connection, task_id))

    async def newest_change(self) -> int:
        """The place of the newest change; 0 where there is none."""
        return await self._read(reads.newest_change)

    async def oldest_change(self) -> int | None:
        """The place of the oldest change that is kept; None where there is none."""
        return await self._read(reads.oldest_change)

    async def changes_after(
        self, seq: int, until: int, limit: int, task_id: str | None = None
    ) -> Sequence[changes.Event]:
        """The first changes after `seq`, up to `until`; of one task, or of all."""
        return await self._read(lambda connection: reads.changes_after(connection, seq, until, limit, task_id))

    def follow(self, on_commit: Callable[[], None]) -> Follower:
        """A reader of the changes to come. `on_commit` is called on the event loop after each commit of this store."""
        self._writer.on_commit = on_commit
        return Follower(Path(self._readers.url.database or ""))
