"""The broker contract, kept by RabbitMQ.

Publishing and consuming have a connection each, so that a broker that blocks publishers (a memory or disk alarm) still
hears acknowledgements: rabbitmq.com/docs/alarms.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel
from aiormq import Channel as UnderlayChannel
from aiormq.exceptions import PublishError
from pamqp.commands import Basic

from taskqueue.broker.amqp.consumers import AmqpSubscription
from taskqueue.broker.amqp.session import OPEN_TIMEOUT_SECONDS, SESSION_ERRORS, Session, kept_open, open_session
from taskqueue.broker.amqp.topology import count_ready, declare
from taskqueue.broker.contract import PUBLISH_TIMEOUT_SECONDS, QUEUE, Receive
from taskqueue.errors import BrokerUnavailable


@dataclass(frozen=True)
class _PublishingSession:
    session: Session
    publishing: UnderlayChannel
    asking: AbstractChannel


class AmqpBroker:
    """See `contract.Broker`."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
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

    async def publish(self, bodies: Sequence[bytes]) -> Sequence[bool]:
        """See `contract.Broker`."""
        current = self._session()
        if not bodies:
            return []
        publishes = [asyncio.ensure_future(self._publish(current, body)) for body in bodies]
        # A publish that waits for its turn or its confirm has no bound of its own.
        _, late = await asyncio.wait(publishes, timeout=PUBLISH_TIMEOUT_SECONDS)
        for publish in late:
            publish.cancel()
        results = await asyncio.gather(*publishes, return_exceptions=True)
        return [result is True for result in results]

    def subscribe(
        self, receive: Receive, *, channels: int, prefetch_count: int
    ) -> AbstractAsyncContextManager[AmqpSubscription]:
        """See `contract.Broker`."""
        return AmqpSubscription(self._url, f"{self._name} consuming", receive, channels, prefetch_count).running()

    async def ready_count(self) -> int:
        """See `contract.Broker`."""
        try:
            ready, consumers = await count_ready(self._session().asking)
        except SESSION_ERRORS as error:
            raise BrokerUnavailable(repr(error)) from error
        if not ready and not consumers:
            raise BrokerUnavailable("RabbitMQ does not know how many messages are ready, or nobody consumes")
        return ready

    @asynccontextmanager
    async def _open_for_publishing(self) -> AsyncIterator[Session]:
        async with open_session(self._url, f"{self._name} publishing") as session:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                channel = await session.open_channel()
                await declare(channel)
                asking = await session.open_channel()
            # One layer down: aio-pika's own publish waits for each message to be flushed to the socket.
            publishing = cast("UnderlayChannel", await channel.get_underlay_channel())
            self._current = _PublishingSession(session, publishing, asking)
            yield session

    def _session(self) -> _PublishingSession:
        if self._current is None or not self._current.session.alive:
            raise BrokerUnavailable
        return self._current

    async def _publish(self, current: _PublishingSession, body: bytes) -> bool:
        properties = Basic.Properties(content_type="application/json", delivery_mode=DeliveryMode.PERSISTENT)
        try:
            # A broker in distress does not read, and what is written all the same would fill this process's memory.
            await current.publishing.connection.ready()
            confirmation = await current.publishing.basic_publish(
                body, routing_key=QUEUE, properties=properties, mandatory=True, wait=False
            )
        except PublishError:
            current.session.end("the queue of tasks is gone")
            return False
        except SESSION_ERRORS:
            return False
        return isinstance(confirmation, Basic.Ack)
