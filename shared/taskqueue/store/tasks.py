"""The store: what the rest of the system may do with tasks. Every method raises StoreUnavailable or QueryFailed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskqueue.clock import Clock
from taskqueue.errors import QueryFailed, SchemaUnknown, StoreUnavailable, StoreUnreachable
from taskqueue.schema import Task, TaskPayload, TaskStatus
from taskqueue.store import reads, sqlite, sweeps, writes
from taskqueue.store.faults import store_errors
from taskqueue.store.sharing import together_with
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.writer import BatchedWrite, GroupCommitWriter

REQUEUE_LIMIT: Final = 1_000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class TaskStore:
    """Tasks on disk: written through one group-commit writer, read through a pool of its own."""

    def __init__(self, writer: GroupCommitWriter, readers: AsyncEngine, clock: Clock) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._last_stamp = 0

    async def add(self, payload: TaskPayload, due_at: int) -> None:
        """Records a new task; it is on disk when this returns. It is due at `due_at` (ms) if nothing happens first."""
        await self._write(writes.add, writes.NewTask(payload, self._stamp(), due_at))

    async def mark_queued(self, dispatched: Sequence[writes.Dispatched]) -> None:
        """Notes that the broker holds these tasks' messages."""
        await self._writer.run(writes.mark_queued, dispatched)

    async def claim(
        self, payload: TaskPayload, attempt: int, worker: str, lease: int, challenge: int
    ) -> writes.Claimed | writes.NotClaimed:
        """Begins the attempt that follows `attempt`, under a lease of so many ms; see `writes.Claim`."""
        now = self._clock()
        wish = writes.Claim(payload, attempt, worker, now, now + lease, now + challenge, self._stamp())
        return await self._write(writes.claim, wish)

    async def settle(self, settlement: writes.Settlement) -> bool:
        """Records what came of an attempt; False, and nothing recorded, where another attempt has superseded it."""
        return await self._write(writes.settle, settlement)

    async def renew(self, lease: writes.Lease) -> bool:
        """Extends the lease of a running attempt; False where another attempt has superseded it."""
        return await self._write(writes.renew, lease)

    async def take_due(self, lease: int, max_attempts: int, limit: int) -> sweeps.Taken:
        """Takes up to `limit` due tasks for `lease` ms, so that no other sweep takes them too."""
        now = self._clock()
        if not await self._read(lambda connection: reads.anything_due(connection, now)):
            return sweeps.Taken(ready=[], failed=[])
        return await self._write(sweeps.take_due, sweeps.Due(now, now + lease, max_attempts, limit))

    async def requeue_lost(self, made_before: int) -> int:
        """Makes queued tasks due whose message was made before `made_before` (ms); answers how many."""
        requeued = 0
        while await self._read(lambda connection: reads.anything_queued(connection, made_before)):
            lost = sweeps.Lost(made_before, self._clock(), REQUEUE_LIMIT)
            requeued += await self._write(sweeps.requeue_lost, lost)
        return requeued

    async def resume(self) -> int:
        """Makes all that a former process left unfinished due at once. Only while no other process is at work."""
        return await self._write(sweeps.resume, sweeps.Restart(self._clock()))

    async def find(self, task_id: str) -> Task | None:
        """The task, if it is known."""
        return await self._read(lambda connection: reads.find(connection, task_id))

    async def newest(self, status: TaskStatus | None = None) -> Sequence[Task]:
        """The newest tasks, newest first; of one status, or of any. 100 at most, and fewer where they are large."""
        return await self._read(lambda connection: reads.newest(connection, status))

    async def check(self) -> None:
        """Returns where the database answers with the schema that this version knows; else raises SchemaUnknown."""
        try:
            found = await self._read(reads.schema_revisions)
        except QueryFailed:
            found = []
        if list(found) != [SCHEMA_REVISION]:
            at = f"at revision {found[0]}" if found else "without a schema"
            raise SchemaUnknown(
                f"the database is {at}, and this version needs revision {SCHEMA_REVISION}: "
                "run the migrate service of this version first"
            )

    async def _write(self, write: BatchedWrite[Item, Answer], item: Item) -> Answer:
        [answer] = await self._writer.run(write, [item])
        return answer

    async def _read(self, query: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        with store_errors():
            async with self._readers.connect() as connection:
                return await query(connection)

    def _stamp(self) -> int:
        self._last_stamp = max(self._clock() * 1000, self._last_stamp + 1)
        return self._last_stamp


@asynccontextmanager
async def open_store(path: Path, clock: Clock, *, shared_file: bool = True) -> AsyncIterator[TaskStore]:
    """The store in the SQLite file `path`, made by the migrate service.

    Raises StartRefused where it must not be used: see `errors`. `shared_file` says that other processes write it too.
    """
    _refuse_unsafe(path, shared_file=shared_file)
    with together_with(path) if shared_file else nullcontext():
        async with _opened(path, clock) as store:
            yield store


@asynccontextmanager
async def _opened(path: Path, clock: Clock) -> AsyncIterator[TaskStore]:
    engine, readers = sqlite.writer_engine(path), sqlite.reader_engine(path)
    writer = GroupCommitWriter(engine)
    store = TaskStore(writer, readers, clock)
    try:
        async with writer.running():
            try:
                await store.check()
            except StoreUnavailable as error:
                raise StoreUnreachable(f"the database cannot be opened: {error}") from error
            yield store
    finally:
        engine.dispose()
        await readers.dispose()


def _refuse_unsafe(path: Path, *, shared_file: bool) -> None:
    sqlite.require_usable_folder(path.parent)
    version = sqlite.use_bundled_sqlite()
    if shared_file:
        sqlite.require_mended(version)
    if not path.exists():
        raise StoreUnreachable(f"there is no database yet at {path}: run the migrate service first")
