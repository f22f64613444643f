"""The worker's side of the store: attempts begun and outcomes recorded, however long the database is away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from taskqueue import events
from taskqueue.actions import Action
from taskqueue.actions.registry import Registry
from taskqueue.clock import Clock, milliseconds
from taskqueue.errors import StoreUnavailable
from taskqueue.events import LogEvent
from taskqueue.retry import Backoff
from taskqueue.schema import TaskMessage
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.doors.working import NO_LIMITS, Limits, Working
from taskqueue.store.settling import Settlement
from taskqueue_worker.outcomes import Recorded, settlement
from taskqueue_worker.running import CHALLENGE_SECONDS
from taskqueue_worker.settings import WorkSettings

STORE_AWAY: Final = Backoff(first=0.5, ceiling=5)

Answer = TypeVar("Answer")


class Ledger:
    """Begins and settles the attempts of one worker, under its name, by what its actions say of theirs."""

    def __init__(self, store: Working, clock: Clock, worker: str, registry: Registry, settings: WorkSettings) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._worker = worker
        self._lease = milliseconds(settings.lease_seconds)
        self._max_attempts = settings.max_attempts

    async def begin(self, message: TaskMessage) -> Claimed | NotClaimed:
        """Claims the attempt that `message` is for. Raises QueryFailed where the database cannot take this task."""
        limits = _limits(self._registry.find(message.action))
        challenge = milliseconds(CHALLENGE_SECONDS)
        return await _insist(
            lambda: self._store.claim(message, self._worker, self._lease, challenge, limits),
            events.CLAIM_POSTPONED,
            message.id,
        )

    async def settle(self, claimed: Claimed, outcome: Recorded) -> Settlement | None:
        """Records `outcome` and answers what was recorded; None where another attempt has superseded this one.

        Raises QueryFailed where the database cannot take this outcome.
        """
        action = self._registry.find(claimed.payload.action)
        backoff = action.backoff if action else None
        decided = settlement(claimed, outcome, self._clock(), self._max_attempts, backoff)
        became = await _insist(lambda: self._store.settle(decided), events.SETTLE_POSTPONED, decided.id)
        return None if became is None else replace(decided, status=became)


def _limits(action: Action | None) -> Limits:
    if action is None:
        return NO_LIMITS
    timeout = None if action.timeout is None else milliseconds(action.timeout)
    return Limits(timeout, action.max_attempts)


async def _insist(operation: Callable[[], Awaitable[Answer]], on_failure: LogEvent, task_id: str) -> Answer:
    failures = 0
    while True:
        try:
            return await operation()
        except StoreUnavailable as error:
            failures += 1
            events.emit(on_failure, task_id=task_id, reason=str(error))
            await asyncio.sleep(STORE_AWAY.delay(failures, random.random()))  # noqa: S311 - jitter needs no secrecy
