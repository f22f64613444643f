"""What every broker promises, whichever driver stands behind it: `taskqueue.broker.contract`, executed."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import aio_pika
import pytest

from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, REASON_HEADER, Broker
from taskqueue.broker.memory import MemoryBroker
from taskqueue.errors import BrokerUnavailable
from taskqueue.schema import HIGH, NORMAL
from tests.support.eventually import eventually
from tests.support.inbox import Inbox
from tests.support.rabbitmq import RabbitMQ

DeadLetters = Callable[[], Awaitable[list[tuple[bytes, str]]]]

MEBIBYTE = 1024 * 1024
PLENTY = 100


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff\r\n\xce", id="any bytes"),
        pytest.param('{"é": "\U0001f600"}'.encode(), id="text"),
        pytest.param(random.Random(1).randbytes(MEBIBYTE), id="1 MiB"),
    ],
)
async def test_a_message_arrives_as_it_was_published(broker: Broker, inbox: Inbox, body: bytes) -> None:
    """Bytes in, the same bytes out."""
    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        confirmed = await broker.publish([body])

        assert list(confirmed) == [True]
        (delivery,) = await inbox.expect(1)
        assert delivery.body == body


async def test_messages_arrive_in_order(broker: Broker, inbox: Inbox) -> None:
    """The order is that of publishing, within a call and from call to call."""
    bodies = _bodies(60)
    await broker.publish(bodies[:30])
    await broker.publish(bodies[30:])

    async with broker.subscribe(inbox, channels=1, prefetch_count=PLENTY):
        await inbox.expect(60)

    assert inbox.bodies == bodies


async def test_high_messages_overtake_normal_ones_that_wait(broker: Broker, inbox: Inbox) -> None:
    """Published last, they come first but for the share of the normal ones; each priority keeps its order."""
    normal, high = _bodies(30, prefix="normal "), _bodies(10, prefix="high ")
    await broker.publish(normal)
    await broker.publish(high, HIGH)

    async with broker.subscribe(inbox, channels=1, prefetch_count=PLENTY):
        await inbox.expect(40)

    assert set(high) <= set(inbox.bodies[:16])
    assert _of(inbox, "high ") == high
    assert _of(inbox, "normal ") == normal


async def test_normal_messages_get_their_share_while_high_ones_keep_coming(broker: Broker, inbox: Inbox) -> None:
    """One of three deliveries, however many of high priority were published after them."""
    await broker.publish(_bodies(20, prefix="normal "), NORMAL)
    await broker.publish(_bodies(100, prefix="high "), HIGH)

    async with broker.subscribe(inbox, channels=1, prefetch_count=3):
        for position in range(60):
            deliveries = await inbox.expect(position + 1)
            await broker.publish([b"high, later %d" % position], HIGH)
            await deliveries[position].ack()

    assert len(_of(inbox, "normal ")) in range(18, 22)


async def test_a_released_message_of_high_priority_comes_before_normal_ones(broker: Broker, inbox: Inbox) -> None:
    """What a consumer gives back does not queue up behind what it overtook."""
    await broker.publish(_bodies(10, prefix="normal "))
    await broker.publish([b"high"], HIGH)

    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        (delivery,) = await inbox.expect(1)
        await delivery.release()
        await inbox.expect(2)

    assert inbox.bodies == [b"high", b"high"]


async def test_each_message_has_an_answer(broker: Broker) -> None:
    """One answer for each message, none for none."""
    assert list(await broker.publish(_bodies(3))) == [True, True, True]
    assert list(await broker.publish([])) == []


async def test_many_may_publish_at_once(broker: Broker, inbox: Inbox) -> None:
    """Each is answered for its own messages, and every confirmed one arrives."""
    batches = [_bodies(10, prefix=f"{number}-") for number in range(10)]

    answers = await asyncio.gather(*(broker.publish(batch) for batch in batches))

    assert all(all(answer) for answer in answers)
    async with broker.subscribe(inbox, channels=2, prefetch_count=PLENTY):
        await inbox.expect(100)
    assert sorted(inbox.bodies) == sorted(body for batch in batches for body in batch)


@pytest.mark.parametrize(("channels", "prefetch_count"), [(2, 5), (1, 1), (3, 2)])
async def test_a_consumer_holds_no_more_than_it_asked_for(
    broker: Broker, inbox: Inbox, channels: int, prefetch_count: int
) -> None:
    """So many a channel at most; the rest stays with the broker, and comes one by one as others are settled."""
    room = channels * prefetch_count
    await broker.publish(_bodies(room + 4))

    async with broker.subscribe(inbox, channels=channels, prefetch_count=prefetch_count):
        await inbox.expect(room)
        await _eventually_ready(broker, 4)
        assert len(inbox.deliveries) == room

        await inbox.deliveries[0].ack()
        await inbox.expect(room + 1)
        await inbox.deliveries[-1].ack()
        await inbox.expect(room + 2)
        await _eventually_ready(broker, 2)
        assert len(inbox.deliveries) == room + 2


async def test_every_channel_is_used(broker: Broker, inbox: Inbox) -> None:
    """Two channels with room for one message each hold two."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=1):
        await broker.publish(_bodies(3))

        await inbox.expect(2)
        await _eventually_ready(broker, 1)


async def test_a_released_message_comes_again(broker: Broker, inbox: Inbox) -> None:
    """It goes back to the queue, and is delivered until it is acknowledged."""
    await broker.publish([b"a"])

    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        for again in range(1, 4):
            deliveries = await inbox.expect(again)
            await deliveries[-1].release()
        deliveries = await inbox.expect(4)
        await deliveries[-1].ack()
        await _eventually_ready(broker, 0)

    assert inbox.bodies == [b"a"] * 4


async def test_a_released_message_may_go_to_another_consumer(broker: Broker, inbox: Inbox) -> None:
    """Whoever has room gets it."""
    other = Inbox()
    await broker.publish([b"a"])

    async with broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription:
        (delivery,) = await inbox.expect(1)
        await subscription.stop()
        async with broker.subscribe(other, channels=1, prefetch_count=1):
            await delivery.release()
            await other.expect(1)

    assert [inbox.bodies, other.bodies] == [[b"a"], [b"a"]]


async def test_what_was_not_settled_comes_again(broker: Broker, inbox: Inbox) -> None:
    """When a subscription ends, all that it held goes back, and to it alone nothing more."""
    other = Inbox()
    await broker.publish(_bodies(8))

    async with broker.subscribe(inbox, channels=2, prefetch_count=3):
        await inbox.expect(6)
        settled = inbox.deliveries[2]
        await settled.ack()
        await inbox.expect(7)
    async with broker.subscribe(other, channels=1, prefetch_count=PLENTY):
        await other.expect(7)
        await _eventually_ready(broker, 0)

    assert sorted(other.bodies) == sorted(set(_bodies(8)) - {settled.body})


async def test_what_was_acknowledged_never_comes_again(broker: Broker, inbox: Inbox) -> None:
    """Not to the next consumer, and not after it."""
    other = Inbox()
    await broker.publish(_bodies(20))

    async with broker.subscribe(inbox, channels=2, prefetch_count=5):
        for position in range(20):
            deliveries = await inbox.expect(position + 1)
            await deliveries[position].ack()
    await broker.publish([b"next"])
    async with broker.subscribe(other, channels=1, prefetch_count=PLENTY):
        await other.expect(1)

    assert sorted(inbox.bodies) == _bodies(20)
    assert other.bodies == [b"next"]


@pytest.mark.parametrize("reason", ["invalid JSON", "é\n\u2028\U0001f600", ""])
async def test_a_buried_message_is_kept_with_its_reason(
    broker: Broker, inbox: Inbox, dead_letters: DeadLetters, reason: str
) -> None:
    """It leaves the queue for the dead-letter queue, unchanged, with the reason beside it."""
    await broker.publish([b"\xff\x00", b"next"])

    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        (delivery,) = await inbox.expect(1)
        await delivery.bury(reason)
        await inbox.expect(2)

    assert inbox.bodies == [b"\xff\x00", b"next"]
    assert await dead_letters() == [(b"\xff\x00", reason)]


async def test_a_very_long_reason_does_not_keep_a_message_from_being_buried(
    broker: Broker, inbox: Inbox, dead_letters: DeadLetters
) -> None:
    """At least its beginning is kept."""
    await broker.publish([b"a"])

    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        (delivery,) = await inbox.expect(1)
        await delivery.bury("é" * 200_000)
        ((body, reason),) = await dead_letters()

    assert body == b"a"
    assert reason.startswith("é" * 1_000)


async def test_buried_messages_make_room(broker: Broker, inbox: Inbox, dead_letters: DeadLetters) -> None:
    """A queue full of what nobody can read does not stop the messages behind it."""
    await broker.publish([*[b"bad"] * 12, b"good"])

    async with broker.subscribe(inbox, channels=2, prefetch_count=5):
        for position in range(12):
            deliveries = await inbox.expect(position + 1)
            await deliveries[position].bury("bad")
        await inbox.expect(13)

    assert inbox.bodies[-1] == b"good"
    assert len(await dead_letters()) == 12


async def test_nothing_comes_after_a_stop(broker: Broker, inbox: Inbox) -> None:
    """What is published then stays for others, and room that becomes free is not filled."""
    other = Inbox()
    await broker.publish(_bodies(4))

    async with broker.subscribe(inbox, channels=1, prefetch_count=2) as subscription:
        deliveries = await inbox.expect(2)
        await subscription.stop()
        for delivery in deliveries:
            await delivery.ack()
        await broker.publish([b"late"])
        async with broker.subscribe(other, channels=1, prefetch_count=PLENTY):
            await other.expect(3)

    assert inbox.bodies == _bodies(2)
    assert other.bodies == [*_bodies(4)[2:], b"late"]


async def test_what_came_before_a_stop_can_be_settled_after_it(
    broker: Broker, inbox: Inbox, dead_letters: DeadLetters
) -> None:
    """Acknowledged, released and buried: each has its effect."""
    other = Inbox()
    await broker.publish([b"ack", b"bury", b"release"])

    async with broker.subscribe(inbox, channels=1, prefetch_count=3) as subscription:
        acknowledged, buried, released = await inbox.expect(3)
        await subscription.stop()
        await acknowledged.ack()
        await buried.bury("bad")
        await released.release()
        async with broker.subscribe(other, channels=1, prefetch_count=PLENTY):
            await other.expect(1)
            await _eventually_ready(broker, 0)

    assert other.bodies == [b"release"]
    assert await dead_letters() == [(b"bury", "bad")]


async def test_a_stop_is_harmless_at_any_time(broker: Broker, inbox: Inbox) -> None:
    """Twice, while it begins, and after the subscription has ended."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=1) as subscription:
        await subscription.stop()
        await subscription.stop()
    await subscription.stop()

    assert not subscription.consuming


@pytest.mark.parametrize("moment", [0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1])
async def test_a_subscription_that_is_stopped_while_it_begins_receives_nothing(
    broker: Broker, inbox: Inbox, moment: float
) -> None:
    """A process that is told to stop while it starts takes no work, whatever it was about to do."""
    other = Inbox()

    async with broker.subscribe(inbox, channels=2, prefetch_count=PLENTY) as subscription:
        await asyncio.sleep(moment)
        await subscription.stop()
        async with broker.subscribe(other, channels=1, prefetch_count=PLENTY) as proof:
            await eventually(lambda: proof.consuming)
            await broker.publish(_bodies(20))
            await other.expect(20)
        assert not subscription.consuming

    assert inbox.bodies == []


async def test_a_stop_amid_a_stream_keeps_nothing_back(broker: Broker, inbox: Inbox) -> None:
    """What was on its way is with others soon, although this subscription goes on to settle what it has."""
    other = Inbox()

    async with broker.subscribe(inbox, channels=2, prefetch_count=PLENTY) as subscription:
        await eventually(lambda: subscription.consuming)
        publishing = asyncio.ensure_future(broker.publish(_bodies(400)))
        await inbox.expect(1)
        await subscription.stop()
        received = list(inbox.deliveries)
        await publishing
        async with broker.subscribe(other, channels=1, prefetch_count=1_000):
            await other.expect(400 - len(received))
            await _eventually_ready(broker, 0)

    assert inbox.deliveries == received
    assert sorted(inbox.bodies + other.bodies) == _bodies(400)


async def test_settling_after_the_end_comes_to_nothing(broker: Broker, inbox: Inbox, dead_letters: DeadLetters) -> None:
    """A handler that outlives its subscription may answer, and its message comes again all the same."""
    other = Inbox()
    await broker.publish(_bodies(3))
    async with broker.subscribe(inbox, channels=1, prefetch_count=3):
        acknowledged, released, buried = await inbox.expect(3)

    await acknowledged.ack()
    await released.release()
    await buried.bury("too late")

    async with broker.subscribe(other, channels=1, prefetch_count=PLENTY):
        await other.expect(3)
    assert sorted(other.bodies) == _bodies(3)
    assert await dead_letters() == []


async def test_two_subscriptions_share_the_work(broker: Broker, inbox: Inbox) -> None:
    """Neither takes all where both have room, and no message goes to both."""
    other = Inbox()

    async with (
        broker.subscribe(inbox, channels=1, prefetch_count=1) as one,
        broker.subscribe(other, channels=1, prefetch_count=1) as two,
    ):
        await eventually(lambda: one.consuming and two.consuming)
        await broker.publish(_bodies(2))
        await inbox.expect(1)
        await other.expect(1)

    assert sorted(inbox.bodies + other.bodies) == _bodies(2)


async def test_what_waits_for_a_consumer_is_counted(broker: Broker, inbox: Inbox) -> None:
    """What a consumer holds no longer waits; what it gives back waits again."""
    async with broker.subscribe(inbox, channels=1, prefetch_count=2) as subscription:
        await eventually(lambda: subscription.consuming)
        assert await broker.ready_count() == 0
        await broker.publish(_bodies(5))
        await inbox.expect(2)
        await _eventually_ready(broker, 3)

    await _eventually_ready(broker, 5)


async def test_a_subscription_knows_whether_it_consumes(broker: Broker, inbox: Inbox) -> None:
    """True once every consumer receives, false from its stop on."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=1) as subscription:
        await eventually(lambda: subscription.consuming)
        await subscription.stop()
        assert not subscription.consuming


async def test_a_subscription_that_has_ended_does_not_consume(broker: Broker, inbox: Inbox) -> None:
    """Whoever asks it later learns so."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=1) as subscription:
        await eventually(lambda: subscription.consuming)

    await eventually(lambda: not subscription.consuming)


async def test_a_broker_knows_that_it_is_connected(broker: Broker) -> None:
    """Messages can be published where it says so."""
    assert broker.connected
    assert list(await broker.publish([b"a"])) == [True]


async def test_a_thousand_messages_pass_through_small_windows(broker: Broker, inbox: Inbox) -> None:
    """Every one arrives, and none twice."""
    bodies = _bodies(1_000)

    async with broker.subscribe(inbox, channels=2, prefetch_count=5):
        for start in range(0, 1_000, 100):
            assert all(await broker.publish(bodies[start : start + 100]))
        for position in range(1_000):
            deliveries = await inbox.expect(position + 1)
            await deliveries[position].ack()
        await _eventually_ready(broker, 0)

    assert sorted(inbox.bodies) == bodies


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.docker)])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """Each driver, empty and connected."""
    if request.param == "memory":
        yield MemoryBroker()
        return
    rabbitmq: RabbitMQ = request.getfixturevalue("clean_rabbitmq")
    async with open_broker(rabbitmq.url, "contract") as opened:
        await eventually(lambda: opened.connected, what="the connection")
        yield opened


@pytest.fixture
def dead_letters(broker: Broker, request: pytest.FixtureRequest) -> DeadLetters:
    """Asks for all dead letters, as bodies and reasons."""
    if isinstance(broker, MemoryBroker):
        return lambda: _in_memory(broker)
    rabbitmq: RabbitMQ = request.getfixturevalue("clean_rabbitmq")
    return lambda: _in_rabbitmq(rabbitmq.url)


async def _in_memory(broker: MemoryBroker) -> list[tuple[bytes, str]]:
    return list(broker.dead_letters)


async def _in_rabbitmq(url: str) -> list[tuple[bytes, str]]:
    found = []
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(DEAD_LETTER_QUEUE)
        while (message := await queue.get(fail=False)) is not None:
            found.append((message.body, str(message.headers[REASON_HEADER])))
            await message.ack()
    return found


async def _eventually_ready(broker: Broker, count: int) -> None:
    async def counted() -> bool:
        with suppress(BrokerUnavailable):
            return await broker.ready_count() == count
        return False

    await eventually(counted, what=f"{count} ready messages")


def _of(inbox: Inbox, prefix: str) -> list[bytes]:
    return [body for body in inbox.bodies if body.startswith(prefix.encode())]


def _bodies(count: int, prefix: str = "") -> list[bytes]:
    return [f"{prefix}{number:04}".encode() for number in range(count)]


async def test_what_it_holds_is_told(broker: Broker, inbox: Inbox) -> None:
    """What waits, what is buried, and, where the driver can know it, what consumers have."""
    async with broker.subscribe(inbox, channels=1, prefetch_count=2):
        await broker.publish([b"1", b"2", b"3", b"4"])
        first, _ = (await inbox.expect(2))[:2]
        await first.bury("nobody can read it")
        await inbox.expect(3)

        async def told() -> bool:
            held = await broker.holdings()
            return (held.ready, held.dead) == (1, 1) and held.unacknowledged in (2, None)

        await eventually(told, what="what it holds")
