"""Group commit: one writer per process, whose every transaction carries all that arrived during the last one.

    callers   ──item──▶ ┌─ waiting ─┐      ┌────────── one transaction ──────────┐
    callers   ──item──▶ │ i  i  i  i│ ───▶ │ BEGIN IMMEDIATE · batches · COMMIT  │ ───▶ each caller its own result
    callers   ──item──▶ └───────────┘      └─────────────────────────────────────┘
                         ▲ what arrives meanwhile waits for the next

One fsync then serves many callers (J. Gray, A. Reuter, Transaction Processing, 1992, section 9.4). A caller that is
cancelled leaves its item behind: the transaction ends as it would have, so a half-done one can never hold the lock.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskqueue import events
from taskqueue.errors import QueryFailed, StoreError, StoreUnavailable
from taskqueue.store.faults import store_errors

MAX_ITEMS_PER_COMMIT: Final = 1_000

Item = TypeVar("Item")
Result = TypeVar("Result")
BatchedWrite = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Result]]]
"""Writes many items at once and answers one result for each, in order. Must not begin or end a transaction."""


@dataclass(frozen=True)
class _Waiting:
    write: BatchedWrite[Any, Any]
    item: Any
    outcome: asyncio.Future[Any]


class GroupCommitWriter:
    """Runs batched writes, each in a transaction shared with whatever else is waiting."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._closing = False

    async def run(self, write: BatchedWrite[Item, Result], item: Item) -> Result:
        """The result of `write` for `item`, once it is on disk.

        Raises StoreUnavailable where nothing was written, QueryFailed where the database refused this very item.
        """
        if self._closing:
            raise StoreUnavailable("the store is closing")
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(write, item, outcome))
        self._arrived.set()
        return await outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Commits what arrives for as long as the block runs, and all that has arrived by its end."""
        task = asyncio.create_task(self._commit_what_arrives(), name="group commit")
        try:
            yield
        finally:
            self._closing = True
            self._arrived.set()
            await task

    async def _commit_what_arrives(self) -> None:
        while self._waiting or not self._closing:
            await self._arrived.wait()
            group = self._waiting[:MAX_ITEMS_PER_COMMIT]
            del self._waiting[:MAX_ITEMS_PER_COMMIT]
            if not self._waiting and not self._closing:
                self._arrived.clear()
            if group:
                await self._commit_or_tell(group)

    async def _commit_or_tell(self, group: Sequence[_Waiting]) -> None:
        try:
            results = await self._commit(group)
        except StoreUnavailable as error:
            _tell(group, error)
        except Exception as error:  # noqa: BLE001 - whatever an item brings about, the writer must live, and its caller must hear
            await self._part(group, QueryFailed(str(error)))
        else:
            for waiting, result in zip(group, results, strict=True):
                if not waiting.outcome.done():
                    waiting.outcome.set_result(result)

    async def _commit(self, group: Sequence[_Waiting]) -> list[Any]:
        results: dict[int, Any] = {}
        with store_errors():
            async with self._engine.begin() as connection:
                for write, indexes in _by_write(group).items():
                    answers = await write(connection, [group[index].item for index in indexes])
                    results.update(zip(indexes, answers, strict=True))
        return [results[index] for index in range(len(group))]

    async def _part(self, group: Sequence[_Waiting], error: QueryFailed) -> None:
        """One bad item must not fail its neighbours: each is tried alone."""
        if len(group) == 1:
            _tell(group, error)
            return
        events.emit(events.GROUP_PARTED, items=len(group), reason=str(error))
        for waiting in group:
            await self._commit_or_tell([waiting])


def _by_write(group: Sequence[_Waiting]) -> dict[BatchedWrite[Any, Any], list[int]]:
    batches: dict[BatchedWrite[Any, Any], list[int]] = {}
    for index, waiting in enumerate(group):
        batches.setdefault(waiting.write, []).append(index)
    return batches


def _tell(group: Sequence[_Waiting], error: StoreError) -> None:
    for waiting in group:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(type(error)(str(error)))
