"""Acknowledging several deliveries of a channel with one frame.

A group commit settles several tasks at once, most often all that the channel has handed out. One `Basic.Ack` for them
is one frame here, and one command of the quorum queue's log there, instead of one each.
"""

import asyncio
from typing import Final

from aiormq import Channel


class Acknowledgements:
    """The answers to the deliveries of one channel, which has one consumer and asks for no message by itself.

    RabbitMQ counts a channel's deliveries from 1 (rabbitmq.com/docs/confirms). A frame for several is for all up to a
    tag, so it goes no further than up to where every single one has been answered or is to be acknowledged.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel: Final = channel
        self._sending = asyncio.Lock()
        self._waiting: set[int] = set()
        self._answered: set[int] = set()
        self._all_answered_up_to = 0

    async def ack(self, tag: int) -> None:
        """Acknowledges `tag`, together with whatever else is acknowledged in this turn of the event loop."""
        self._waiting.add(tag)
        await asyncio.sleep(0)
        if tag in self._waiting:
            await self._send()

    def note_answered(self, tag: int) -> None:
        """`tag` has been answered otherwise, by a frame that has been sent."""
        self._answered.add(tag)

    async def _send(self) -> None:
        # One after the other: a frame waits where many are on their way, and one for several must not overtake it.
        async with self._sending:
            waiting = set(self._waiting)
            last = self._last_of_all_up_to(waiting)
            if last:
                # Not flushed by itself: the writer sends it with whatever else is on its way.
                await self._channel.basic_ack(last, multiple=True, wait=False)
                self._waiting -= {tag for tag in waiting if tag <= last}
            for tag in sorted(tag for tag in waiting if tag > last):
                await self._channel.basic_ack(tag, wait=False)
                self._waiting.remove(tag)

    def _last_of_all_up_to(self, waiting: set[int]) -> int:
        """The last of these tags before which nothing is unanswered; 0 where there is none."""
        self._answered |= {tag for tag in waiting if tag > self._all_answered_up_to}
        last = 0
        while (following := self._all_answered_up_to + 1) in self._answered:
            self._answered.remove(following)
            self._all_answered_up_to = following
            last = following if following in waiting else last
        return last
