"""What a broker promises, whichever driver stands behind it; `tests/contracts/test_broker.py` is the executable form.

At least once: a confirmed message is delivered until it is acknowledged. Within a priority they come in order, but for
those that come back. A broker that loses its disk may lose messages; the store is the truth and makes up for it.

There are two priorities, and no more take effect (`docs/adr/0009`). High messages overtake normal ones that wait. What
share of the deliveries these have meanwhile is the broker's affair: a third at the memory broker and at RabbitMQ up to
4.2, none at RabbitMQ from 4.3 on. `taskqueue.sweep` makes up for what is missing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from taskqueue.schema import NORMAL

QUEUE: Final = "tasks"
DEAD_LETTER_QUEUE: Final = "tasks.dead"
REASON_HEADER: Final = "x-reason"
HIGH_IN_A_ROW: Final = 2
"""So many high messages, then a normal one, while both wait: the share that normal ones are to have."""
PUBLISH_TIMEOUT_SECONDS: Final = 5.0


FindUrl = Callable[[], str]
"""Answers where a broker is, and with which password: asked for each connection."""


class Delivery(Protocol):
    """A message that is this consumer's until it says what became of it, once."""

    @property
    def body(self) -> bytes:
        """The message, as it was published."""

    async def ack(self) -> None:
        """Done with it. May come to nothing where the connection is lost: the message then comes again."""

    async def release(self) -> None:
        """Not done: it goes back to the queue, for any consumer."""

    async def bury(self, reason: str) -> None:
        """Nobody can ever do it: it goes to the dead-letter queue, with `reason` in the header `x-reason`."""


Receive = Callable[[Delivery], None]
"""Takes a delivery without waiting; the work happens elsewhere."""


class Subscription(Protocol):
    """Consumers at work."""

    @property
    def consuming(self) -> bool:
        """Whether every consumer is known to receive."""

    async def stop(self) -> None:
        """No further deliveries; those already received can still be acknowledged, released or buried."""


@dataclass(frozen=True)
class Holdings:
    """How many messages a broker holds: for consumers, unsettled at consumers (None: it does not tell), and buried."""

    ready: int
    unacknowledged: int | None
    dead: int


class Broker(Protocol):
    """A queue of ready tasks."""

    @property
    def connected(self) -> bool:
        """Whether messages can be published now, as far as this side knows."""

    @property
    def away_since(self) -> int | None:
        """Since which instant (ms) nothing can be published, as far as this side knows; None while it can."""

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """Publishes messages of one priority; answers for each whether the broker has confirmed it, within 5 s.

        An unconfirmed one may have arrived all the same. Raises BrokerUnavailable where there is no connection.
        """

    def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AbstractAsyncContextManager[Subscription]:
        """Consumes on so many channels, each holding at most `prefetch_count` unacknowledged messages."""

    async def ready_count(self) -> int:
        """How many messages wait for a consumer. Raises BrokerUnavailable where nobody can say.

        0 is an answer that can be relied on. Where nobody consumes, a broker may be unable to tell it from ignorance.
        """

    async def holdings(self) -> Holdings:
        """What the broker holds. Raises BrokerUnavailable where nobody can say; of `ready`, see `ready_count`."""
