"""A worker takes attempts, and tells what comes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue.store import claims, reads, settling, under_way
from taskqueue.store.doors.door import Door


@dataclass(frozen=True)
class Limits:
    """What an action says of its attempts, for tasks that do not: a timeout in ms, and how many."""

    timeout: int | None = None
    max_attempts: int | None = None


NO_LIMITS: Final = Limits()


class Working(Door):
    """A worker takes attempts, and tells what comes of them."""

    async def claim(
        self, message: TaskMessage, worker: str, lease: int, challenge: int, limits: Limits = NO_LIMITS
    ) -> claims.Claimed | claims.NotClaimed:
        """Begins the attempt that `message` is for, under a lease of so many ms; see `claims.Claim`."""
        wish = claims.Claim(
            message.payload(created_at=self._clock() // 1000),
            message.attempt,
            worker,
            lease,
            challenge,
            self._stamp(),
            limits.timeout,
            limits.max_attempts,
            message.alone,
            message.recorded,
        )
        return await self._write(self._claim, wish)

    async def report(self, progress: under_way.Progress) -> bool:
        """Notes what a handler tells of its progress; False where another attempt has superseded it."""
        return await self._write(under_way.report, progress)

    async def called_off(self, worker: str) -> Sequence[tuple[str, int]]:
        """The running attempts of `worker` that somebody has called off: ids and attempts."""
        return await self._read(lambda connection: reads.called_off(connection, worker))

    async def settle(self, settlement: settling.Settlement) -> TaskStatus | None:
        """Records what came of an attempt, and answers what its task has become; see `settling.Settlement`.

        None, and nothing recorded, where another attempt has superseded it.
        """
        return await self._write(settling.settle, settlement)

    async def renew(self, lease: under_way.Lease) -> bool:
        """Extends the lease of a running attempt; False where another attempt has superseded it."""
        return await self._write(under_way.renew, lease)

    def _claim(
        self, connection: Connection, wishes: Sequence[claims.Claim]
    ) -> Sequence[claims.Claimed | claims.NotClaimed]:
        # A wish may have waited, for the lock or while the whole process stood still. Leases begin when they are given,
        # or they could have run out by then, and a challenge would leave the other worker no time.
        return claims.claim(connection, wishes, self._clock())
