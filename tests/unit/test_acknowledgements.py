"""Acknowledging many with one frame: never one that has not been answered, against what RabbitMQ makes of a frame."""

import asyncio
import random
from typing import cast

import pytest
from aiormq import Channel

from taskqueue.broker.amqp.acknowledgements import Acknowledgements

HELD = 10
MESSAGES = 200


class _Held:
    """A channel's unanswered messages, as RabbitMQ keeps them (collect_acks in rabbit_channel.erl).

    With `room`, only so many frames are on their way at once, as with aiormq: the next one waits.
    """

    def __init__(self, count: int = 0, room: int = 0) -> None:
        self.tags = list(range(1, count + 1))
        self.acknowledged: set[int] = set()
        self.frames = 0
        self._on_their_way: asyncio.Queue[tuple[int, bool]] = asyncio.Queue(room)

    async def basic_ack(self, delivery_tag: int, multiple: bool = False, wait: bool = True) -> None:
        """As aiormq's channel has it."""
        assert not wait
        await self._on_their_way.put((delivery_tag, multiple))
        self.frames += 1

    def hear(self) -> None:
        """Hears all that is on its way; fails for a tag that is not held, where RabbitMQ closes the channel."""
        while not self._on_their_way.empty():
            tag, multiple = self._on_their_way.get_nowait()
            assert tag in self.tags, f"unknown delivery tag {tag}"
            meant = [held for held in self.tags if held == tag or (multiple and held < tag)]
            self.tags = [held for held in self.tags if held not in meant]
            self.acknowledged.update(meant)


def _over(held: _Held) -> Acknowledgements:
    return Acknowledgements(cast("Channel", held))


async def test_all_that_are_held_take_one_frame() -> None:
    """In whatever order they are done."""
    held = _Held(5)
    acknowledgements = _over(held)

    await asyncio.gather(*(acknowledgements.ack(tag) for tag in (3, 1, 5, 4, 2)))
    held.hear()

    assert (held.tags, held.frames) == ([], 1)


async def test_what_is_not_done_is_not_acknowledged() -> None:
    """Those behind it take a frame each, until it is done, too."""
    held = _Held(5)
    acknowledgements = _over(held)

    await asyncio.gather(*(acknowledgements.ack(tag) for tag in (1, 2, 4, 5)))
    held.hear()
    assert (held.tags, held.frames) == ([3], 3)

    held.tags.append(6)
    await asyncio.gather(*(acknowledgements.ack(tag) for tag in (3, 6)))
    held.hear()
    assert (held.tags, held.frames) == ([], 4)


async def test_what_was_answered_otherwise_is_passed_over() -> None:
    """It is held no more, so that no frame may name it."""
    held = _Held(3)
    acknowledgements = _over(held)
    held.tags.remove(3)
    acknowledgements.note_answered(3)
    held.tags.remove(1)
    acknowledgements.note_answered(1)

    await acknowledgements.ack(2)
    held.hear()

    assert (held.tags, held.frames) == ([], 1)


async def test_one_that_is_cancelled_is_acknowledged_with_the_next() -> None:
    """It was done; and nothing that is not goes with it."""
    held = _Held(3)
    acknowledgements = _over(held)
    cancelled = asyncio.create_task(acknowledgements.ack(1))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)

    await acknowledgements.ack(2)
    held.hear()

    assert (held.tags, held.acknowledged) == ([3], {1, 2})


async def test_a_frame_for_several_overtakes_none_that_waits() -> None:
    """Where many frames are on their way the next one waits, and more is done meanwhile."""
    held = _Held(13, room=10)
    acknowledgements = _over(held)

    first = [asyncio.create_task(acknowledgements.ack(tag)) for tag in range(2, 13)]
    await _turns()
    then = [asyncio.create_task(acknowledgements.ack(tag)) for tag in (1, 13)]
    for _ in range(13):
        await asyncio.sleep(0)
        held.hear()
    await asyncio.gather(*first, *then)

    assert held.tags == []


async def test_one_that_is_cancelled_on_its_way_leaves_the_others() -> None:
    """What it was sending for them is sent by the next, and nothing twice."""
    held = _Held(14, room=10)
    acknowledgements = _over(held)
    sending = [asyncio.create_task(acknowledgements.ack(tag)) for tag in range(2, 14)]
    await _turns()
    sending[0].cancel()
    await _turns()
    sending += [asyncio.create_task(acknowledgements.ack(tag)) for tag in (1, 14)]
    for _ in range(14):
        await asyncio.sleep(0)
        held.hear()
    await asyncio.gather(*sending, return_exceptions=True)

    assert held.tags == []


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(50))
async def test_any_order_of_answers_keeps_what_is_not_answered(seed: int) -> None:
    """Some are given back, some done at once with others; each is answered once, and nothing besides."""
    chance = random.Random(seed)
    held = _Held()
    acknowledgements = _over(held)
    coming = iter(range(1, MESSAGES + 1))
    at_work: list[int] = []
    done: set[int] = set()
    for _ in range(10 * MESSAGES):
        fresh = [tag for tag, _ in zip(coming, range(HELD - len(at_work)), strict=False)]
        held.tags += fresh
        at_work += fresh
        if not at_work:
            break
        chance.shuffle(at_work)
        ended = [at_work.pop() for _ in range(chance.randint(1, len(at_work)))]
        if chance.random() < 0.2:
            given_back = ended.pop()
            held.tags.remove(given_back)
            acknowledgements.note_answered(given_back)
        await asyncio.gather(*(acknowledgements.ack(tag) for tag in ended))
        held.hear()
        done.update(ended)
        assert held.acknowledged == done
        assert sorted(held.tags) == sorted(at_work)

    assert held.tags == at_work == []
