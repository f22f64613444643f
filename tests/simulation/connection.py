"""The way to the broker, on which messages are lost, doubled, late, and overtake one another.

process ── Connection ──▶ Server ──▶ Connection ── process        a latency each way; and it can be cut off
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from taskqueue.broker.contract import PUBLISH_TIMEOUT_SECONDS, Delivery, Holdings, Receive
from taskqueue.broker.memory import MemorySubscription
from taskqueue.errors import BrokerUnavailable
from taskqueue.schema import NORMAL
from tests.simulation.arriving import Arriving, crashed, settle
from tests.simulation.database import ANSWERED
from tests.simulation.loop import Lane
from tests.simulation.server import Server, at_once, attempt_of


class Connection:
    """One process's way to the server: see `contract.Broker`."""

    def __init__(self, server: Server, lane: Lane) -> None:
        self._server = server
        self._lane = lane
        self._up_at = 0.0
        self._away_since: int | None = None
        self._unanswered: set[asyncio.Future[bool]] = set()
        self._subscriptions: list[_Subscription] = []
        server.connections.append(self)

    @property
    def connected(self) -> bool:
        """See `contract.Broker`."""
        return self._server.up and self._server.loop.time() >= self._up_at

    @property
    def away_since(self) -> int | None:
        """See `contract.Broker`."""
        return None if self.connected else self._away_since

    def cut(self, seconds: float) -> None:
        """No message gets through for so long, and what the consumers held goes back."""
        self._server.trace.note("cut off from the broker", self._lane.name, f"{seconds:.1f} s")
        self._away_since = self._server.clock()
        self._up_at = max(self._up_at, self._server.loop.time() + seconds)
        for future in sorted(self._unanswered, key=hash):
            _answer(future, False)
        for subscription in self._subscriptions:
            subscription.lose()
            subscription.open()

    def end(self) -> None:
        """The process is gone."""
        if self in self._server.connections:
            self._server.connections.remove(self)
        for subscription in self._subscriptions:
            subscription.lose()

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        self._require()
        if self._server.chance.happens("crash before publish"):
            await crashed(self._lane)
        confirmed = [self._send(body, priority) for body in bodies]
        if self._server.chance.happens("crash after publish"):
            await crashed(self._lane)
        done, _ = await asyncio.wait(confirmed, timeout=PUBLISH_TIMEOUT_SECONDS)
        self._unanswered.difference_update(confirmed)
        return [future in done and future.result() for future in confirmed]

    @asynccontextmanager
    async def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AsyncIterator["_Subscription"]:
        """See `contract.Broker`."""
        subscription = _Subscription(self, self._server, self._lane, receive, (channels, prefetch_count))
        self._subscriptions.append(subscription)
        subscription.open()
        try:
            yield subscription
        finally:
            subscription.lose()
            self._subscriptions.remove(subscription)

    async def ready_count(self) -> int:
        """See `contract.Broker`."""
        self._require()
        await asyncio.sleep(self._server.chance.latency())
        self._require()
        count = await self._server.queue.ready_count()
        await asyncio.sleep(self._server.chance.latency())
        return count

    async def holdings(self) -> Holdings:
        """See `contract.Broker`."""
        self._require()
        return await self._server.queue.holdings()

    def _require(self) -> None:
        if not self.connected:
            raise BrokerUnavailable

    def _send(self, body: bytes, priority: int) -> asyncio.Future[bool]:
        chance, answer = self._server.chance, self._server.loop.create_future()
        self._unanswered.add(answer)
        self._server.trace.note("publish", *attempt_of(body))
        if not chance.happens("publish lost"):
            self._server.later(chance.latency(), self._arrive, body, priority, answer)
        if chance.happens("published twice"):
            self._server.later(chance.latency(), self._server.take, body, priority)
        return answer

    def _arrive(self, body: bytes, priority: int, answer: asyncio.Future[bool]) -> None:
        taken = self.connected and self._server.take(body, priority)
        if not self._server.chance.happens("confirm lost"):
            seconds = self._server.chance.latency()
            self._server.loop.call_later(seconds, _answer, answer, taken, context=self._lane.context())


class _Subscription:
    """Consumers at work: see `contract.Subscription`. Cut off, it is opened anew, and what it had is anybody's."""

    def __init__(
        self, connection: Connection, server: Server, lane: Lane, receive: Receive, shape: tuple[int, int]
    ) -> None:
        self._connection = connection
        self._server = server
        self._lane = lane
        self._receive = receive
        self._channels, self._prefetch_count = shape
        self._stopped = False
        self._generation = 0
        self._opened: AbstractAsyncContextManager[MemorySubscription] | None = None
        self._at_server: MemorySubscription | None = None

    @property
    def consuming(self) -> bool:
        """See `contract.Subscription`."""
        return self._connection.connected and self._opened is not None and not self._stopped

    async def stop(self) -> None:
        """See `contract.Subscription`."""
        self._stopped = True
        if self._at_server is not None:
            self._server.later(self._server.chance.latency(), settle, self._at_server.stop)

    def open(self) -> None:
        """Begins to consume, as soon as the server can be reached."""
        self._try_open(self._generation)

    def _try_open(self, generation: int) -> None:
        if generation != self._generation or self._stopped:
            return
        if self._connection.connected:
            self._server.later(self._server.chance.latency(), self._begin, generation)
        else:
            seconds = self._server.chance.between(0.1, 1)
            self._server.loop.call_later(seconds, self._try_open, generation, context=self._lane.context())

    def lose(self) -> None:
        """What it had goes back to the queue, sooner or later."""
        self._generation += 1
        opened, self._opened, self._at_server = self._opened, None, None
        if opened is not None:
            self._server.later(self._server.chance.latency(), _close, opened)

    def _begin(self, generation: int) -> None:
        if generation != self._generation or self._stopped:
            return
        receive = partial(self._deliver, generation)
        self._opened = self._server.queue.subscribe(
            receive, channels=self._channels, prefetch_count=self._prefetch_count
        )
        self._at_server = at_once(self._opened.__aenter__())

    def _deliver(self, generation: int, delivery: Delivery) -> None:
        chance = self._server.chance
        if chance.happens("delivery dropped"):
            # What a connection swallows, it swallows at its end.
            self._server.trace.note("delivery dropped", *attempt_of(delivery.body))
            self._server.later(chance.between(1, 15), self._cut, generation)
            return
        arrives = Arriving(self._server, self._lane, delivery, lambda: generation == self._generation)
        context = self._lane.context()
        context.run(ANSWERED.set, arrives.answered)
        self._server.loop.call_later(chance.latency(), self._arrive, generation, arrives, context=context)

    def _cut(self, generation: int) -> None:
        if generation == self._generation:
            self._connection.cut(self._server.chance.between(0.1, 3))

    def _arrive(self, generation: int, delivery: Arriving) -> None:
        if generation == self._generation:
            self._receive(delivery)


def _close(opened: AbstractAsyncContextManager[MemorySubscription]) -> None:
    at_once(opened.__aexit__(None, None, None))


def _answer(future: asyncio.Future[bool], taken: bool) -> None:
    if not future.done():
        future.set_result(taken)
