"""Publishing many messages with one write to the socket.

aio-pika and aiormq publish one message at a time, each under a lock, a timer and a flush of its own, which costs more
than the message. This goes one layer down: it makes the frames with pamqp, as aiormq does, and registers their
confirmations with aiormq's channel, which hears the broker's answers as ever.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import pamqp.frame
from aio_pika import DeliveryMode
from aiormq import Channel
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

Confirmation = asyncio.Future[object]
"""Becomes a Basic.Ack where the broker holds the message; raises PublishError where no queue takes it."""


class BatchPublisher:
    """Persistent, mandatory messages to one queue, over a channel with confirms that nobody else publishes on."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self._channel = channel
        self._publish: Final = self._frame(Basic.Publish(routing_key=queue, mandatory=True))

    async def send(self, bodies: Sequence[bytes], priority: int) -> Sequence[Confirmation]:
        """Writes all messages to the socket, with this AMQP priority, and answers their confirmations, in order.

        Where this is cut off, the channel has lost count of its messages and must not be used again.
        """
        channel = self._channel
        # A broker in distress does not read, and what is written all the same would fill this process's memory.
        await channel.connection.ready()
        async with channel.lock:
            confirmations = [self._expect_confirmation() for _ in bodies]
            first = channel.delivery_tag - len(bodies) + 1
            payload = b"".join(self._message(tag, body, priority) for tag, body in enumerate(bodies, first))
            flushed = channel.create_future()
            await channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=flushed))
        await flushed
        return confirmations

    def _expect_confirmation(self) -> Confirmation:
        channel = self._channel
        channel.delivery_tag += 1
        tag = channel.delivery_tag
        confirmation: Confirmation = channel.create_future()
        channel.confirmations[tag] = confirmation
        # How aiormq finds the message that a Basic.Return is about.
        channel.message_id_delivery_tag[str(tag)] = tag
        confirmation.add_done_callback(lambda _: channel.message_id_delivery_tag.pop(str(tag), None))
        return confirmation

    def _message(self, tag: int, body: bytes, priority: int) -> bytes:
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=str(tag),
            priority=priority,
        )
        size = self._channel.max_content_size
        parts = (ContentBody(body[start : start + size]) for start in range(0, len(body), size))
        header = ContentHeader(body_size=len(body), properties=properties)
        return b"".join((self._publish, self._frame(header), *map(self._frame, parts)))

    def _frame(self, frame: Basic.Publish | ContentHeader | ContentBody) -> bytes:
        marshalled: bytes = pamqp.frame.marshal(frame, self._channel.number)
        return marshalled
