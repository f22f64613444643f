"""Consuming from RabbitMQ, and proving that it is so.

aio-pika runs a consumer's callback as a task of its channel and cancels it when the channel closes, so the callback
only hands the delivery on: the work belongs to whoever received it, and outlives the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq import Channel as UnderlayChannel

from taskqueue import events, failpoints
from taskqueue.broker.amqp.acknowledgements import Acknowledgements
from taskqueue.broker.amqp.session import (
    OPEN_TIMEOUT_SECONDS,
    SESSION_ERRORS,
    Session,
    kept_open,
    lost_not_cancelled,
    open_session,
)
from taskqueue.broker.amqp.topology import count_ready, declare
from taskqueue.broker.contract import FindUrl, Receive
from taskqueue.errors import BrokerUnavailable

WATCH_SECONDS: Final = 5.0
DEAF_AFTER_ROUNDS: Final = 2
CANCEL_SECONDS: Final = 1.0
BURY_AGAIN_SECONDS: Final = 1.0

Bury = Callable[[bytes, str], Awaitable[None]]
"""Puts a message into the dead-letter queue, over a connection that publishes: see `driver`."""


@dataclass(frozen=True)
class Consumption:
    """How to consume: on so many channels, each with so many messages at once, and what to do with each."""

    channels: int
    prefetch_count: int
    receive: Receive
    bury: Bury


class AmqpSubscription:
    """See `contract.Subscription`."""

    def __init__(self, find_url: FindUrl, name: str, consumption: Consumption) -> None:
        self._find_url = find_url
        self._name = name
        self._consumption = consumption
        self._stopped = False
        self._current: _ConsumingSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["AmqpSubscription"]:
        """Consumes for as long as the block runs, over one session after the other."""
        async with kept_open(self._open, self._name):
            yield self

    @property
    def consuming(self) -> bool:
        """See `contract.Subscription`."""
        return self._current is not None and self._current.consuming

    async def stop(self) -> None:
        """See `contract.Subscription`."""
        self._stopped = True
        if self._current is not None:
            await self._current.cancel_consumers()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Session]:
        async with open_session(self._find_url(), self._name) as session:
            self._current = consuming = _ConsumingSession(session, self._consumption)
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                asking = await session.open_channel()
                if not self._stopped:
                    await consuming.open()
            watch = asyncio.create_task(consuming.watch(asking), name=f"watch: {self._name}")
            try:
                yield session
            finally:
                watch.cancel()


class _ConsumingSession:
    """The consumers of one session, each on a channel of its own."""

    def __init__(self, session: Session, consumption: Consumption) -> None:
        self.session = session
        self._consumption = consumption
        self._consumers: list[_Consumer] = []
        self._cancelling: set[asyncio.Task[None]] = set()
        self._opened = False
        self._stopped = False

    @property
    def consuming(self) -> bool:
        return self.session.alive and self._opened and bool(self._consumers)

    async def open(self) -> None:
        for _ in range(self._consumption.channels):
            if self._stopped:
                break
            channel = await self.session.open_channel()
            await channel.set_qos(prefetch_count=self._consumption.prefetch_count)
            underlay = cast("UnderlayChannel", await channel.get_underlay_channel())
            consumer = _Consumer(underlay, Acknowledgements(underlay))
            queue = await declare(channel)
            consumer.tag = await queue.consume(partial(self._on_message, consumer))
            self._consumers.append(consumer)
        self._opened = True
        if self._stopped:
            await self.cancel_consumers()

    async def cancel_consumers(self) -> None:
        self._stopped = True
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            self._cancelling.add(asyncio.create_task(consumer.cancel(), name=f"cancel consumer: {consumer.tag}"))
        if self._cancelling:
            # Not cut off where it takes long: that would close the channel, and all that it holds would come again.
            await asyncio.wait(self._cancelling, timeout=CANCEL_SECONDS)

    async def watch(self, asking: AbstractChannel) -> None:
        """Ends the session where the broker has ready messages, and a consumer that holds none hears nothing."""
        silent_rounds = 0
        while True:
            heard = [consumer.received for consumer in self._consumers]
            await asyncio.sleep(WATCH_SECONDS)
            try:
                ready, _ = await count_ready(asking)
            except SESSION_ERRORS as error:
                self.session.end(f"the broker does not answer ({error!r})")
                return
            deaf = ready > 0 and any(map(_Consumer.has_heard_nothing_since, self._consumers, heard))
            silent_rounds = silent_rounds + 1 if deaf else 0
            if silent_rounds == DEAF_AFTER_ROUNDS:
                events.emit(events.CONSUMERS_DEAF, ready=ready)
                self.session.end("messages are ready but a consumer hears nothing")
                return

    async def _on_message(self, consumer: "_Consumer", message: AbstractIncomingMessage) -> None:
        delivery = AmqpDelivery(consumer, message, self._consumption.bury)
        if self._stopped:
            await delivery.release()
        else:
            self._consumption.receive(delivery)


@dataclass(eq=False)
class _Consumer:
    """One consumer: its channel, and how many messages it has received and not yet settled."""

    channel: UnderlayChannel
    acknowledgements: Acknowledgements
    tag: str = ""
    received: int = 0
    unsettled: int = 0

    def has_heard_nothing_since(self, received: int) -> bool:
        return self.unsettled == 0 and self.received == received

    async def cancel(self) -> None:
        with suppress(*SESSION_ERRORS):
            # With RabbitMQ's answer, before which all that was on its way has come, and has been released.
            await self.channel.basic_cancel(self.tag)


class AmqpDelivery:
    """See `contract.Delivery`. An answer that does not reach the broker is no fault: the message comes again."""

    def __init__(self, consumer: _Consumer, message: AbstractIncomingMessage, bury: Bury) -> None:
        self.body = message.body
        self._bury = bury
        self._consumer = consumer
        self._tag = message.delivery_tag or 0
        consumer.received += 1
        consumer.unsettled += 1

    async def ack(self) -> None:
        """See `contract.Delivery`."""
        self._consumer.unsettled -= 1
        with suppress(*SESSION_ERRORS):
            await self._consumer.acknowledgements.ack(self._tag)

    async def release(self) -> None:
        """See `contract.Delivery`."""
        self._consumer.unsettled -= 1
        with suppress(*SESSION_ERRORS), lost_not_cancelled():
            await self._consumer.channel.basic_nack(self._tag, requeue=True)
            self._consumer.acknowledgements.note_answered(self._tag)

    async def bury(self, reason: str) -> None:
        """See `contract.Delivery`."""
        if self._consumer.channel.is_closed:
            return  # it is somebody else's by now
        try:
            await self._bury(self.body, reason)
        except (*SESSION_ERRORS, BrokerUnavailable):
            # Not buried, so not acknowledged either: it comes again, and not at once.
            await asyncio.sleep(BURY_AGAIN_SECONDS)
            await self.release()
        else:
            failpoints.reach("bury.published")
            await self.ack()
