"""The one place that knows the AMQP driver, which is imported only where it is used."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskqueue.broker.contract import Broker


@asynccontextmanager
async def open_broker(url: str, name: str) -> AsyncIterator[Broker]:
    """The broker at `url`, an amqp:// or amqps:// one, connected to as `name` for as long as the block runs.

    Does not wait for the connection: a broker that is away now is connected to when it comes back.
    """
    from taskqueue.broker.amqp.driver import AmqpBroker  # noqa: PLC0415 - embedded mode runs without aio-pika

    async with AmqpBroker(url, name).running() as broker:
        yield broker
