"""The queues, as every process that may declares them.

RabbitMQ refuses a queue that exists with other arguments, so what may need tuning later belongs into a policy.

Sources: rabbitmq.com/docs/quorum-queues (delivery limit, dead-lettering at least once needs `reject-publish`) and
/docs/access-control (to make a queue that dead-letters one must be allowed to read it; to look for it, nothing).
"""

import asyncio
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from taskqueue.broker.amqp.session import Session, lost_not_cancelled
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, QUEUE

# The true count of attempts is in the store. This is a backstop for a message that ends every connection it comes to.
_DELIVERY_LIMIT: Final = 100

RPC_TIMEOUT_SECONDS: Final = 5.0
TRIAL_SECONDS: Final = 2.0

_DEAD_LETTER_ARGUMENTS: Final = MappingProxyType({"x-queue-type": "quorum"})
_QUEUE_ARGUMENTS: Final = MappingProxyType(
    {
        "x-queue-type": "quorum",
        "x-delivery-limit": _DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_LETTER_QUEUE,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
)


async def declare(channel: AbstractChannel) -> AbstractQueue:
    """Makes both queues where they do not exist, and answers the one of tasks."""
    await _declare(channel, DEAD_LETTER_QUEUE, _DEAD_LETTER_ARGUMENTS)
    return await _declare(channel, QUEUE, _QUEUE_ARGUMENTS)


async def are_there(session: Session) -> bool:
    """Whether somebody has made the queue of tasks."""
    trial = await session.open_trial_channel()
    try:
        await trial.declare_queue(QUEUE, passive=True)
    except ChannelNotFoundEntity:
        return False
    await trial.close()
    return True


async def require_leave_to_publish(session: Session) -> None:
    """Publishes what no queue takes, since RabbitMQ tells only then whether this user may publish.

    So a session that may not does not begin, and nobody takes it for a connection. One that hears nothing does: a
    broker without memory confirms nothing, and is no stranger.
    """
    trial = await session.open_trial_channel()
    with suppress(TimeoutError):
        async with asyncio.timeout(TRIAL_SECONDS):
            await trial.default_exchange.publish(Message(b""), routing_key="", mandatory=False)


async def _declare(channel: AbstractChannel, name: str, arguments: MappingProxyType[str, Any]) -> AbstractQueue:
    return await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def count_ready(channel: AbstractChannel) -> tuple[int, int]:
    """How many tasks wait for a consumer, and how many consumers there are.

    Both are 0 as well where the queue's leader does not answer RabbitMQ within 250 ms (rabbit_quorum_queue:stat/1).
    Where the queue is gone, RabbitMQ closes `channel`.
    """
    return await _count(channel, QUEUE)


async def count_dead(session: Session) -> int:
    """How many messages are buried, as far as the queue's leader answers RabbitMQ; 0 where there is no such queue."""
    # Opening and closing included: a broker without memory does not answer a connection that has published.
    async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
        with lost_not_cancelled():
            trial = await session.open_trial_channel()
            try:
                messages, _ = await _count(trial, DEAD_LETTER_QUEUE)
                await trial.close()
            except ChannelNotFoundEntity:
                return 0
            finally:
                session.forget(trial)
            return messages


async def _count(channel: AbstractChannel, name: str) -> tuple[int, int]:
    async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
        with lost_not_cancelled():
            queue = await channel.declare_queue(name, passive=True)
    return queue.declaration_result.message_count or 0, queue.declaration_result.consumer_count or 0
