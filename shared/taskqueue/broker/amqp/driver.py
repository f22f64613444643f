"""The broker contract, kept by RabbitMQ.

Publishing and consuming have a connection each, so that a broker that blocks publishers (a memory or disk alarm) still
hears acknowledgements: rabbitmq.com/docs/alarms.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel
from aiormq import Channel as UnderlayChannel
from aiormq.exceptions import PublishError
from pamqp.commands import Basic
from pamqp.common import FieldValue

from taskqueue.broker.amqp.consumers import AmqpSubscription, Consumption
from taskqueue.broker.amqp.publisher import BatchPublisher, Confirmation
from taskqueue.broker.amqp.session import (
    OPEN_TIMEOUT_SECONDS,
    SESSION_ERRORS,
    Session,
    kept_open,
    lost_not_cancelled,
    open_session,
)
from taskqueue.broker.amqp.topology import are_there, count_dead, count_ready, declare, require_leave_to_publish
from taskqueue.broker.contract import (
    DEAD_LETTER_QUEUE,
    PUBLISH_TIMEOUT_SECONDS,
    QUEUE,
    REASON_HEADER,
    FindUrl,
    Holdings,
    Receive,
)
from taskqueue.clock import system_clock
from taskqueue.errors import BrokerUnavailable
from taskqueue.schema import NORMAL

MAX_REASON_CHARACTERS: Final = 1_000


@dataclass(frozen=True)
class _PublishingSession:
    session: Session
    publisher: BatchPublisher
    asking: AbstractChannel


class AmqpBroker:
    """See `contract.Broker`."""

    def __init__(self, find_url: FindUrl, name: str, *, makes_queues: bool = True) -> None:
        self._find_url = find_url
        self._name = name
        self._makes_queues = makes_queues
        self.away_since: int | None = system_clock()
        self._current: _PublishingSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["AmqpBroker"]:
        """Stays connected for publishing for as long as the block runs."""
        async with kept_open(self._open_for_publishing, f"{self._name} publishing"):
            yield self

    @property
    def connected(self) -> bool:
        """See `contract.Broker`."""
        return self._current is not None and self._current.session.alive

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        current = self._session()
        if not bodies:
            return []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_TIMEOUT_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                with lost_not_cancelled():
                    confirmations = await current.publisher.send(bodies, priority)
        except SESSION_ERRORS as error:
            current.session.end(f"a publish was cut off ({error!r})")
            return [False] * len(bodies)
        _, late = await asyncio.wait(confirmations, timeout=max(0.0, deadline - loop.time()))
        for confirmation in late:
            confirmation.cancel()
        return [_is_confirmed(current.session, confirmation) for confirmation in confirmations]

    def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AbstractAsyncContextManager[AmqpSubscription]:
        """See `contract.Broker`."""
        consumption = Consumption(channels, prefetch_count, receive, self._bury)
        return AmqpSubscription(self._find_url, f"{self._name} consuming", consumption).running()

    async def ready_count(self) -> int:
        """See `contract.Broker`."""
        try:
            ready, consumers = await count_ready(self._session().asking)
        except SESSION_ERRORS as error:
            raise BrokerUnavailable(repr(error)) from error
        if not ready and not consumers:
            raise BrokerUnavailable("RabbitMQ does not know how many messages are ready, or nobody consumes")
        return ready

    async def holdings(self) -> Holdings:
        """See `contract.Broker`. What is unacknowledged is told over RabbitMQ's management alone."""
        ready = await self.ready_count()
        try:
            return Holdings(ready, None, await count_dead(self._session().session))
        except SESSION_ERRORS as error:
            raise BrokerUnavailable(repr(error)) from error

    @asynccontextmanager
    async def _open_for_publishing(self) -> AsyncIterator[Session]:
        async with open_session(self._find_url(), f"{self._name} publishing") as session:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                channel = await session.open_channel()
                if self._makes_queues or not await are_there(session):
                    await declare(channel)
                asking = await session.open_channel()
                # Last, since it is what makes a broker without memory block the connection: no channel opens then.
                await require_leave_to_publish(session)
            publisher = BatchPublisher(cast("UnderlayChannel", await channel.get_underlay_channel()), QUEUE)
            self._current = _PublishingSession(session, publisher, asking)
            self.away_since = None
            try:
                yield session
            finally:
                self.away_since = system_clock()

    async def _bury(self, body: bytes, reason: str) -> None:
        headers: dict[str, FieldValue] = {REASON_HEADER: reason[:MAX_REASON_CHARACTERS]}
        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT, headers=headers)
        current = self._session()
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                with lost_not_cancelled():
                    await current.asking.default_exchange.publish(message, DEAD_LETTER_QUEUE)
        except PublishError:
            current.session.end("the dead-letter queue is gone")
            raise

    def _session(self) -> _PublishingSession:
        if self._current is None or not self._current.session.alive:
            raise BrokerUnavailable
        return self._current


def _is_confirmed(session: Session, confirmation: Confirmation) -> bool:
    error = None if confirmation.cancelled() else confirmation.exception()
    if isinstance(error, PublishError):
        session.end("the queue of tasks is gone")
    return not confirmation.cancelled() and error is None and isinstance(confirmation.result(), Basic.Ack)
