"""The one place that knows the AMQP driver, which is imported only where it is used."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskqueue.broker.contract import Broker, FindUrl


@asynccontextmanager
async def open_broker(url: str | FindUrl, name: str, *, makes_queues: bool = True) -> AsyncIterator[Broker]:
    """The broker at `url`, an amqp:// or amqps:// one, connected to as `name` for as long as the block runs.

    Does not wait for the connection: a broker that is away now is connected to when it comes back. A function is asked
    anew for each connection, so that a password may change meanwhile. Without `makes_queues` they are only looked for,
    and made where nobody has: what a user without the right to read them can do.
    """
    from taskqueue.broker.amqp.driver import AmqpBroker  # noqa: PLC0415 - embedded mode runs without aio-pika

    find_url = url if callable(url) else lambda: url
    async with AmqpBroker(find_url, name, makes_queues=makes_queues).running() as broker:
        yield broker
