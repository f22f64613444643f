"""New tasks come in."""

from collections.abc import Sequence

from taskqueue.schema import NO_OPTIONS, TaskOptions, TaskPayload
from taskqueue.store import adding, reads
from taskqueue.store.doors.door import Door


class Adding(Door):
    """New tasks come in."""

    async def add(
        self,
        payload: TaskPayload,
        due_at: int,
        options: TaskOptions = NO_OPTIONS,
        *,
        schedule_id: str | None = None,
    ) -> None:
        """Records a new task; it is on disk when this returns. It is due at `due_at` (ms) if nothing happens first."""
        new = adding.NewTask(payload, self._stamp(), due_at, options, schedule_id=schedule_id)
        await self._write(adding.add, new)

    async def add_once(
        self, payload: TaskPayload, due_at: int, options: TaskOptions, *, key: str, fingerprint: str
    ) -> adding.Known | None:
        """Records a new task, unless one has this key: then answers that one, and records nothing."""
        return await self._write(adding.add, adding.NewTask(payload, self._stamp(), due_at, options, key, fingerprint))

    async def holder_of(self, key: str) -> adding.Known | None:
        """The task that was recorded under this key, if one was."""
        return await self._read(lambda connection: reads.holder_of(connection, key))

    async def add_all(self, new: Sequence[tuple[TaskPayload, int, TaskOptions]]) -> None:
        """Records tasks, each with its `due_at` (ms) and its options: all of them, or none."""
        await self._writer.run(
            adding.add, [adding.NewTask(payload, self._stamp(), due_at, options) for payload, due_at, options in new]
        )
