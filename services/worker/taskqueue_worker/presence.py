"""How a worker shows itself to the API: by an entry in the store's roster, which it keeps while it lives."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from pydantic_core import to_json

from taskqueue.actions import Action
from taskqueue.actions.registry import Registry
from taskqueue.clock import Clock
from taskqueue.errors import StoreError
from taskqueue.store.doors.enrolling import Enrolling
from taskqueue.store.roster import OfferedAction

BEAT_SECONDS: Final = 5.0
LEAVE_SECONDS: Final = 2.0
MAX_DESCRIPTION_CHARACTERS: Final = 1_000
MAX_SCHEMA_BYTES: Final = 64 * 1024
"""A larger schema is not published: every API process reads it, and compiles it."""


class Presence:
    """The entry of one worker."""

    def __init__(self, store: Enrolling, clock: Clock, name: str, concurrency: int, registry: Registry) -> None:
        self._store = store
        self._name = name
        self._started_at = clock()
        self._concurrency = concurrency
        self._actions = offered(registry)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """The entry is there for as long as the block runs. After a block that fails it fades, as after a crash."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep(), name="keep the entry in the roster")
            try:
                yield
            finally:
                keeping.cancel()
        # What the store cannot do now is no reason not to stop: an entry that nobody keeps fades.
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._store.remove_worker(self._name, self._started_at)

    async def _keep(self) -> None:
        while True:
            with suppress(StoreError):  # the next round tries again
                if not await self._store.keep_worker(self._name, self._started_at):
                    await self._store.enter_worker(self._name, self._started_at, self._concurrency, self._actions)
            await asyncio.sleep(BEAT_SECONDS)


def offered(registry: Registry) -> Mapping[str, OfferedAction]:
    """What a worker tells of its actions."""
    return {action.name: _offer(action) for action in registry.actions}


def _offer(action: Action) -> OfferedAction:
    # Without the lone surrogates that neither JSON nor a database takes.
    description = action.description[:MAX_DESCRIPTION_CHARACTERS].encode(errors="replace").decode()
    try:
        schema = action.schema
        publishable = len(to_json(schema)) <= MAX_SCHEMA_BYTES
    except Exception:  # noqa: BLE001 - a user's model may fail in any way; its action works all the same
        return OfferedAction(description)
    return OfferedAction(description, schema if publishable else None)
