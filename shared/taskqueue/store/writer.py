"""Group commit: one writer per process, whose every transaction carries all that arrived until it began.

    callers   ──item──▶ ┌─ waiting ─┐      ┌────────── one transaction ──────────┐
    callers   ──item──▶ │ i  i  i  i│ ───▶ │ BEGIN IMMEDIATE · batches · COMMIT  │ ───▶ each caller its own result
    callers   ──item──▶ └───────────┘      └─────────────────────────────────────┘
                         ▲ what arrives meanwhile waits for the next

One fsync then serves many callers (J. Gray, A. Reuter, Transaction Processing, 1992, section 9.4). A caller that is
cancelled leaves its item behind: the transaction ends as it would have, so a half-done one can never hold the lock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from taskqueue import events, failpoints
from taskqueue.errors import QueryFailed, StoreError, StoreUnavailable
from taskqueue.store.faults import store_errors

MAX_REQUESTS_PER_COMMIT: Final = 1_000

QUIET_TURNS: Final = 6
"""So many turns of the event loop without a new item, and a group is complete.

Whoever has just been answered asks for the next thing within a few turns (a worker that has a claim settles it; a
client that has its 202 posts again), and then shares the commit instead of waiting for the one after it.
"""

MOST_TURNS: Final = 30
"""So many turns, and a group is complete in any case: a stream that never falls quiet must not starve its first."""

Item = TypeVar("Item")
Result = TypeVar("Result")
BatchedWrite = Callable[[Connection, Sequence[Item]], Sequence[Result]]
"""Writes many items at once and answers one result for each, in order. Must not begin or end a transaction."""


@dataclass(frozen=True)
class _Request:
    write: BatchedWrite[Any, Any]
    items: Sequence[Any]
    outcome: asyncio.Future[Any]


class GroupCommitWriter:
    """Runs batched writes, each in a transaction shared with whatever else is waiting."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[_Request] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._connection: Connection | None = None
        self.on_commit: Callable[[], None] = _nothing
        """Called on the event loop after each transaction. Must be cheap, and must not fail."""

    async def run(self, write: BatchedWrite[Item, Result], items: Sequence[Item]) -> Sequence[Result]:
        """The results of `write` for `items`, once they are on disk.

        Raises StoreUnavailable where nothing was written, QueryFailed where the database refused these very items.
        """
        if self._closing:
            raise StoreUnavailable("the store is closing")
        outcome: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(write, items, outcome))
        self._arrived.set()
        return await outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Commits what arrives for as long as the block runs, and all that has arrived by its end."""
        with ThreadPoolExecutor(1, "group commit") as thread:
            task = asyncio.create_task(self._commit_what_arrives(thread), name="group commit")
            try:
                yield
            finally:
                self._closing = True
                self._arrived.set()
                await task
                if self._connection is not None:
                    self._connection.close()

    async def _commit_what_arrives(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            await self._arrived.wait()
            await self._let_more_arrive()
            group = self._waiting[:MAX_REQUESTS_PER_COMMIT]
            del self._waiting[:MAX_REQUESTS_PER_COMMIT]
            if not self._waiting and not self._closing:
                self._arrived.clear()
            answers = await loop.run_in_executor(thread, self._answers, group)
            self.on_commit()
            for request, answer in zip(group, answers, strict=True):
                _tell(request, answer)

    async def _let_more_arrive(self) -> None:
        """Waits for what the event loop has to do anyway, and no longer."""
        quiet = 0
        for _ in range(MOST_TURNS):
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0
            if quiet == QUIET_TURNS:
                break

    def _answers(self, group: Sequence[_Request]) -> Sequence[Any]:
        """For each request its results, or the StoreError that it met. Runs in the thread."""
        if not group:
            return []
        try:
            return self._commit(group)
        except StoreUnavailable as error:
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001 - whatever an item brings about, the writer must live, and tell
            return self._part(group, QueryFailed(str(error)))

    def _commit(self, group: Sequence[_Request]) -> list[Any]:
        batches: dict[BatchedWrite[Any, Any], list[Any]] = {}
        for request in group:
            batches.setdefault(request.write, []).extend(request.items)
        with store_errors(), self._transaction() as connection:
            results = {write: iter(write(connection, items)) for write, items in batches.items()}
            failpoints.reach("commit.writing")
        failpoints.reach("commit.done")
        return [[next(results[request.write]) for _ in request.items] for request in group]

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One on the connection that is kept: to take it from the engine each time is a seventh of a small commit.

        After a failure it is given back, which ends whatever is left of the transaction.
        """
        connection, self._connection = self._connection or self._engine.connect(), None
        try:
            with connection.begin() as transaction:
                yield transaction.connection
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _part(self, group: Sequence[_Request], error: QueryFailed) -> Sequence[Any]:
        """One bad request must not fail its neighbours: each is tried alone."""
        if len(group) == 1:
            return [error]
        events.emit(events.GROUP_PARTED, requests=len(group), reason=str(error))
        return [self._answers([request])[0] for request in group]


def _nothing() -> None:
    """Nobody wants to know."""


def _tell(request: _Request, answer: Any) -> None:
    if request.outcome.done():
        return
    if isinstance(answer, StoreError):
        request.outcome.set_exception(type(answer)(str(answer)))
    else:
        request.outcome.set_result(answer)
