"""Hand-written stand-ins, for the answers that a healthy broker does not give."""

from collections.abc import Collection, Sequence

from taskqueue.broker.memory import MemoryBroker
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

    def _require_connection(self) -> None:
        if not self.connected:
            raise BrokerUnavailable
