"""The actions that live workers have: kept in memory, so that a POST asks nobody what its data must be.

It is read anew every few seconds, and made anew when the workers are others. While the store cannot be read, it stays.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypedDict

from pydantic_core import to_json

from taskqueue import events
from taskqueue.errors import InvalidRequest, StoreError
from taskqueue.store.doors.enrolling import Enrolling
from taskqueue.store.roster import LiveWorker
from taskqueue_api.datacheck import DataCheck, data_check

REFRESH_SECONDS: Final = 2.0
LAST_READ_SECONDS: Final = 2.0


class KnownAction(TypedDict):
    """An action as a client reads it. Where workers differ in it, the newest one's description and schema."""

    name: str
    description: str
    schema: Mapping[str, Any] | None
    workers: int


class Catalogue:
    """What live workers offer, as this process last heard."""

    def __init__(self, store: Enrolling) -> None:
        self.actions: Sequence[KnownAction] = ()
        self._store = store
        self._heard_of: frozenset[tuple[str, int]] = frozenset()
        self._failing = False
        self._by_schema: Mapping[bytes, DataCheck | None] = {}
        self._by_action: Mapping[str, Sequence[DataCheck]] = {}

    def check(self, action: str, data: dict[str, Any]) -> None:
        """Raises InvalidRequest, with the field that is wrong, where no live worker that has `action` takes `data`.

        What no worker has, or not every one tells how to check, is let through.
        """
        checks = self._by_action.get(action)
        if checks and not any(check.fits(data) for check in checks):
            raise InvalidRequest(checks[0].fault(data))

    async def refresh(self) -> None:
        """Hears who is there now."""
        present = await self._store.roll_call()
        if present == self._heard_of:
            return
        workers = await self._store.live_workers()
        self._learn(sorted(workers, key=lambda worker: worker.started_at, reverse=True))
        self._heard_of = frozenset((worker.name, worker.started_at) for worker in workers)

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """It is known when the block begins, and refreshed about every other second for as long as it runs."""
        await self._try_refresh()
        ended = asyncio.Event()
        refreshing = asyncio.create_task(self._keep_fresh(ended), name="refresh the catalogue")
        try:
            yield
        finally:
            ended.set()
            # A read that is cut off may leave its connection open: it is let come to its end.
            await asyncio.wait({refreshing}, timeout=LAST_READ_SECONDS)
            refreshing.cancel()

    async def _keep_fresh(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await ended.wait()
            except TimeoutError:
                await self._try_refresh()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - whatever a worker publishes must not end the rounds
            if not self._failing:
                known = isinstance(error, StoreError)
                events.emit(events.CATALOGUE_FAILED, reason=str(error), exc_info=None if known else error)
            self._failing = True

    def _learn(self, workers: Sequence[LiveWorker]) -> None:
        """Makes the catalogue of these workers, the newest first."""
        offers: dict[str, list[tuple[str, Mapping[str, Any] | None]]] = {}
        for worker in workers:
            for name, offered in worker.actions.items():
                offers.setdefault(name, []).append((offered.description, offered.schema))
        self.actions = [
            KnownAction(name=name, description=of_it[0][0], schema=of_it[0][1], workers=len(of_it))
            for name, of_it in sorted(offers.items())
        ]
        known: dict[bytes, DataCheck | None] = {}
        by_action: dict[str, Sequence[DataCheck]] = {}
        for name, of_it in offers.items():
            checks = {}
            for _, schema in of_it:
                text = to_json(schema)
                if text not in known:
                    known[text] = self._by_schema[text] if text in self._by_schema else data_check(schema)
                checks[text] = known[text]
            sure = [check for check in checks.values() if check is not None]
            if len(sure) == len(checks):
                by_action[name] = sure
        self._by_schema, self._by_action = known, by_action
