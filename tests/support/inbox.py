"""A consumer for tests: keeps what is delivered, and settles nothing by itself."""

from collections.abc import Sequence

from taskqueue.broker.contract import Delivery
from tests.support.eventually import eventually


class Inbox:
    """Deliveries, in the order in which they came."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        """Receives, as `contract.Receive` has it."""
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        """What the deliveries say."""
        return [delivery.body for delivery in self.deliveries]

    async def expect(self, count: int, *, within: float = 10.0) -> Sequence[Delivery]:
        """Waits until so many deliveries have come; answers all there are."""
        await eventually(lambda: len(self.deliveries) >= count, within=within, what=f"{count} deliveries")
        return list(self.deliveries)
