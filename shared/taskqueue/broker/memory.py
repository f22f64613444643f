"""A broker in this process's memory, for embedded mode and tests.

It loses everything with the process, on purpose: the store makes the messages again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from taskqueue.broker.contract import HIGH_IN_A_ROW, Holdings, Receive
from taskqueue.schema import HIGH, NORMAL

CAPACITY: Final = 100_000
CAPACITY_BYTES: Final = 64 * 1024 * 1024
MAX_DEAD_LETTERS: Final = 1_000


class MemoryBroker:
    """Keeps up to `capacity` messages; refuses more, as a full RabbitMQ queue with `reject-publish` does.

    Of dead letters the last 1,000 are kept. With `high_in_a_row=sys.maxsize` it is strict, as RabbitMQ from 4.3 on.
    """

    connected = True
    away_since: int | None = None

    def __init__(
        self, capacity: int = CAPACITY, capacity_bytes: int = CAPACITY_BYTES, *, high_in_a_row: int = HIGH_IN_A_ROW
    ) -> None:
        self.dead_letters: deque[tuple[bytes, str]] = deque(maxlen=MAX_DEAD_LETTERS)
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._ready = _Ready(high_in_a_row)
        self._channels: deque[_Channel] = deque()

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        confirmed = [self._put(_Message(body, priority)) for body in bodies]
        self._deliver_soon()
        return confirmed

    @asynccontextmanager
    async def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AsyncIterator["MemorySubscription"]:
        """See `contract.Broker`."""
        opened = [_Channel(receive, prefetch_count) for _ in range(channels)]
        self._channels.extend(opened)
        self._deliver_soon()
        subscription = MemorySubscription(self, opened)
        try:
            yield subscription
        finally:
            await subscription.stop()
            for channel in opened:
                for delivery in reversed(list(channel.unsettled)):  # so that the first is at the head again
                    await delivery.release()

    async def ready_count(self) -> int:
        """See `contract.Broker`."""
        return len(self._ready)

    async def holdings(self) -> Holdings:
        """See `contract.Broker`."""
        unsettled = sum(len(channel.unsettled) for channel in self._channels)
        return Holdings(await self.ready_count(), unsettled, len(self.dead_letters))

    def forget(self, channel: "_Channel") -> None:
        """Delivers nothing more to `channel`."""
        if channel in self._channels:
            self._channels.remove(channel)

    def settled(self, returned: "_Message | None" = None) -> None:
        """A consumer has room again; what it `returned` goes to the head of those of its priority."""
        if returned is not None:
            self._ready.put_back(returned)
        self._deliver_soon()

    def _put(self, message: "_Message") -> bool:
        if len(self._ready) >= self._capacity or self._ready.size + len(message.body) > self._capacity_bytes:
            return False
        self._ready.put(message)
        return True

    def _deliver_soon(self) -> None:
        # Like a message from the network: never within the call that published or settled.
        asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        idle = 0
        while self._ready and idle < len(self._channels):
            channel = self._channels[0]
            self._channels.rotate(-1)
            if channel.full:
                idle += 1
            else:
                idle = 0
                channel.take(MemoryDelivery(self, channel, self._ready.next()))


@dataclass(frozen=True)
class _Message:
    body: bytes
    priority: int


class _Ready:
    """The messages that wait: those of each priority in order, and of both their share."""

    def __init__(self, high_in_a_row: int = HIGH_IN_A_ROW) -> None:
        self._high_in_a_row = high_in_a_row
        self.size = 0
        self._high: deque[_Message] = deque()
        self._normal: deque[_Message] = deque()
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._high) + len(self._normal)

    def put(self, message: _Message) -> None:
        self._level(message).append(message)
        self.size += len(message.body)

    def put_back(self, message: _Message) -> None:
        self._level(message).appendleft(message)
        self.size += len(message.body)

    def next(self) -> _Message:
        favoured = self._high and (self._in_a_row < self._high_in_a_row or not self._normal)
        self._in_a_row = self._in_a_row + 1 if favoured else 0
        message = (self._high if favoured else self._normal).popleft()
        self.size -= len(message.body)
        return message

    def _level(self, message: _Message) -> deque[_Message]:
        return self._high if message.priority >= HIGH else self._normal


class MemorySubscription:
    """See `contract.Subscription`."""

    def __init__(self, broker: MemoryBroker, channels: Sequence["_Channel"]) -> None:
        self._broker = broker
        self._channels = channels
        self.consuming = True

    async def stop(self) -> None:
        """See `contract.Subscription`."""
        self.consuming = False
        for channel in self._channels:
            self._broker.forget(channel)


class MemoryDelivery:
    """See `contract.Delivery`."""

    def __init__(self, broker: MemoryBroker, channel: "_Channel", message: "_Message") -> None:
        self.body = message.body
        self._message = message
        self._broker = broker
        self._channel = channel

    async def ack(self) -> None:
        """See `contract.Delivery`."""
        if self._channel.settle(self):
            self._broker.settled()

    async def release(self) -> None:
        """See `contract.Delivery`."""
        if self._channel.settle(self):
            self._broker.settled(returned=self._message)

    async def bury(self, reason: str) -> None:
        """See `contract.Delivery`."""
        if self._channel.settle(self):
            self._broker.dead_letters.append((self.body, reason))
            self._broker.settled()


class _Channel:
    """One consumer, and the deliveries that it has not settled, in their order."""

    def __init__(self, receive: Receive, prefetch_count: int) -> None:
        self.unsettled: dict[MemoryDelivery, None] = {}
        self._receive = receive
        self._prefetch_count = prefetch_count

    @property
    def full(self) -> bool:
        return len(self.unsettled) >= self._prefetch_count

    def take(self, delivery: MemoryDelivery) -> None:
        self.unsettled[delivery] = None
        self._receive(delivery)

    def settle(self, delivery: MemoryDelivery) -> bool:
        if delivery not in self.unsettled:
            return False
        del self.unsettled[delivery]
        return True
