"""Hand-written stand-ins, for the answers that a healthy broker does not give."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from taskqueue.broker.contract import Holdings, Receive
from taskqueue.broker.memory import MemoryBroker, MemorySubscription
from taskqueue.errors import BrokerUnavailable
from taskqueue.schema import NORMAL


class RefusingBroker(MemoryBroker):
    """Neither confirms nor keeps a message that names one of the `refused` tasks."""

    def __init__(self, refused: Collection[str]) -> None:
        super().__init__()
        self.refused = refused

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        taken = [not any(task_id.encode() in body for task_id in self.refused) for body in bodies]
        await super().publish([body for body, is_taken in zip(bodies, taken, strict=True) if is_taken], priority)
        return taken


class AwayBroker(MemoryBroker):
    """Cannot be reached while it is not `connected`."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = False

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        self._require_connection()
        return await super().publish(bodies, priority)

    async def ready_count(self) -> int:
        """See `contract.Broker`."""
        self._require_connection()
        return await super().ready_count()

    async def holdings(self) -> Holdings:
        """See `contract.Broker`."""
        self._require_connection()
        return await super().holdings()

    def _require_connection(self) -> None:
        if not self.connected:
            raise BrokerUnavailable


class DeafBroker(MemoryBroker):
    """Is away to its consumers and dispatchers while it is `deaf`; a test can put messages into it all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = True
        self.connected = False

    @asynccontextmanager
    async def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AsyncIterator[MemorySubscription]:
        """See `contract.Broker`."""
        async with super().subscribe(receive, channels=channels, prefetch_count=prefetch_count) as subscription:
            yield _Deafened(self, subscription)

    def _deliver(self) -> None:
        if not self.deaf:
            super()._deliver()

    def hear(self) -> None:
        """Delivers again, what waits included."""
        self.deaf = False
        self.connected = True
        self._deliver()


class _Deafened(MemorySubscription):
    def __init__(self, broker: DeafBroker, subscription: MemorySubscription) -> None:
        self._deafened_by = broker
        self._subscription = subscription

    @property
    def consuming(self) -> bool:  # type: ignore[override]
        """See `contract.Subscription`."""
        return self._subscription.consuming and not self._deafened_by.deaf

    async def stop(self) -> None:
        """See `contract.Subscription`."""
        await self._subscription.stop()
