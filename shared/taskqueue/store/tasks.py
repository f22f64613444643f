"""The store: what the rest of the system may do with tasks. Every method raises StoreUnavailable or QueryFailed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskqueue.clock import Clock
from taskqueue.errors import QueryFailed, SchemaUnknown, StoreUnavailable, StoreUnreachable
from taskqueue.schedule import Schedule
from taskqueue.schema import NO_OPTIONS, NORMAL, PRIORITIES, Task, TaskMessage, TaskOptions, TaskPayload
from taskqueue.store import changes, orders, pages, reads, removal, roster, schedules, sqlite, sweeps, writes
from taskqueue.store.faults import store_errors
from taskqueue.store.following import Follower
from taskqueue.store.orders import Order
from taskqueue.store.sharing import together_with
from taskqueue.store.standing import Standing, standing
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.writer import BatchedWrite, GroupCommitWriter

REQUEUE_LIMIT: Final = 1_000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Limits:
    """What an action says of its attempts, for tasks that do not: a timeout in ms, and how many."""

    timeout: int | None = None
    max_attempts: int | None = None


NO_LIMITS: Final = Limits()


class TaskStore:
    """Tasks on disk: written through one group-commit writer, read through a pool of its own."""

    def __init__(self, writer: GroupCommitWriter, readers: AsyncEngine, clock: Clock) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._last_stamp = 0

    async def add(
        self,
        payload: TaskPayload,
        due_at: int,
        options: TaskOptions = NO_OPTIONS,
        *,
        schedule_id: str | None = None,
    ) -> None:
        """Records a new task; it is on disk when this returns. It is due at `due_at` (ms) if nothing happens first."""
        new = writes.NewTask(payload, self._stamp(), due_at, options, schedule_id=schedule_id)
        await self._write(writes.add, new)

    async def add_once(
        self, payload: TaskPayload, due_at: int, options: TaskOptions, *, key: str, fingerprint: str
    ) -> writes.Known | None:
        """Records a new task, unless one has this key: then answers that one, and records nothing."""
        return await self._write(writes.add, writes.NewTask(payload, self._stamp(), due_at, options, key, fingerprint))

    async def holder_of(self, key: str) -> writes.Known | None:
        """The task that was recorded under this key, if one was."""
        return await self._read(lambda connection: reads.holder_of(connection, key))

    async def add_all(self, new: Sequence[tuple[TaskPayload, int, TaskOptions]]) -> None:
        """Records tasks, each with its `due_at` (ms) and its options: all of them, or none."""
        await self._writer.run(
            writes.add, [writes.NewTask(payload, self._stamp(), due_at, options) for payload, due_at, options in new]
        )

    async def mark_queued(self, dispatched: Sequence[writes.Dispatched]) -> None:
        """Notes that the broker holds these tasks' messages."""
        await self._writer.run(writes.mark_queued, dispatched)

    async def claim(
        self, message: TaskMessage, worker: str, lease: int, challenge: int, limits: Limits = NO_LIMITS
    ) -> writes.Claimed | writes.NotClaimed:
        """Begins the attempt that `message` is for, under a lease of so many ms; see `writes.Claim`."""
        now = self._clock()
        wish = writes.Claim(
            message.payload(created_at=now // 1000),
            message.attempt,
            worker,
            now,
            now + lease,
            now + challenge,
            self._stamp(),
            limits.timeout,
            limits.max_attempts,
            message.alone,
            message.recorded,
        )
        return await self._write(writes.claim, wish)

    async def report(self, progress: writes.Progress) -> bool:
        """Notes what a handler tells of its progress; False where another attempt has superseded it."""
        return await self._write(writes.report, progress)

    async def called_off(self, worker: str) -> Sequence[tuple[str, int]]:
        """The running attempts of `worker` that somebody has called off: ids and attempts."""
        return await self._read(lambda connection: reads.called_off(connection, worker))

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

    async def tick_schedules(self, lease: int) -> Sequence[sweeps.Ready]:
        """Makes the tasks of schedules that are due; they are the caller's to dispatch for `lease` ms."""
        now = self._clock()
        if not await self._read(lambda connection: schedules.anything_ticks(connection, now)):
            return []
        stamps = [self._stamp() for _ in range(schedules.TICKS_AT_ONCE)]
        return await self._write(schedules.tick, schedules.Tick(now, now + lease, stamps))

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

    async def schedules(self) -> Sequence[Schedule]:
        """Schedules, oldest first; 1,000 at most."""
        return await self._read(schedules.listed)

    async def resume(self) -> int:
        """Makes all that a former process left unfinished due at once. Only while no other process is at work."""
        return await self._write(sweeps.resume, sweeps.Restart(self._clock()))

    async def cancel(self, order: Order) -> orders.Cancelled | orders.Refused:
        """Cancels a task that has not begun; asks the worker of one that runs to stop."""
        return await self._write(orders.cancel, order)

    async def cancel_all(self, ordered: Sequence[Order]) -> Sequence[orders.Cancelled | orders.Refused]:
        """Cancels tasks, all in one commit."""
        return await self._writer.run(orders.cancel, ordered)

    async def retry(self, order: Order) -> sweeps.Ready | orders.Refused:
        """Makes a failed or cancelled task pending again; answers what to dispatch."""
        return await self._write(orders.retry, order)

    async def retry_all(self, ordered: Sequence[Order]) -> Sequence[sweeps.Ready | orders.Refused]:
        """Makes failed and cancelled tasks pending again, all in one commit."""
        return await self._writer.run(orders.retry, ordered)

    async def erase(self, order: Order) -> orders.Deleted | orders.Refused:
        """Deletes a finished task."""
        return await self._write(orders.erase, order)

    async def look_for_old(self, after: int, before: int) -> removal.Old:
        """See `removal.look_for_old`."""
        return await self._read(lambda connection: removal.look_for_old(connection, after, before))

    async def remove_old(self, ids: Sequence[str], before: int) -> removal.Removed:
        """Deletes those of these tasks that are finished and had ended before `before` (ms)."""
        return await self._write(removal.remove_old, removal.Removal(ids, before))

    async def last_change_before(self, before: int, limit: int) -> int | None:
        """See `removal.last_before`."""
        return await self._read(lambda connection: removal.last_before(connection, before, limit))

    async def forget_changes(self, last: int) -> removal.Removed:
        """Deletes what became of tasks, up to and including the change `last`."""
        return await self._write(removal.forget_changes, last)

    async def find(self, task_id: str) -> Task | None:
        """The task, if it is known."""
        return await self._read(lambda connection: reads.find(connection, task_id))

    async def page(
        self, wanted: pages.Wanted = pages.EVERYTHING, limit: int = pages.PAGE, after: pages.Position | None = None
    ) -> pages.Page:
        """The newest of the tasks that are wanted, newest first, from `after` on; see `pages`."""
        return await self._read(lambda connection: pages.page(connection, wanted, limit, after))

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

    async def stretch(self, wanted: pages.Wanted, limit: int, after: pages.Position | None = None) -> pages.Stretch:
        """The ids of the newest of the tasks that are wanted, newest first, from `after` on; see `pages`."""
        return await self._read(lambda connection: pages.stretch(connection, wanted, limit, after))

    async def standing(self, task_id: str) -> Standing | None:
        """Where a task stands, and among what, if it is known."""
        return await self._read(lambda connection: standing(connection, task_id, self._clock()))

    async def glance(self, task_id: str) -> reads.Glance | None:
        """Where a task stands, in short, and after which change."""
        return await self._read(lambda connection: reads.glance(connection, task_id))

    async def newest_change(self) -> int:
        """The place of the newest change; 0 where there is none."""
        return await self._read(reads.newest_change)

    async def changes_after(
        self, seq: int, until: int, limit: int, task_id: str | None = None
    ) -> Sequence[changes.Event]:
        """The first changes after `seq`, up to `until`; of one task, or of all."""
        return await self._read(lambda connection: reads.changes_after(connection, seq, until, limit, task_id))

    def follow(self, on_commit: Callable[[], None]) -> Follower:
        """A reader of the changes to come. `on_commit` is called on the event loop after each commit of this store."""
        self._writer.on_commit = on_commit
        return Follower(Path(self._readers.url.database or ""))

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

    async def _requeue(self, priority: int, made_before: int, limit: int) -> int:
        if not await self._read(lambda connection: reads.anything_queued(connection, priority, made_before)):
            return 0
        return await self._write(sweeps.requeue_lost, sweeps.Lost(priority, made_before, self._clock(), limit))

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
