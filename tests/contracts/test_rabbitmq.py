"""What only a real broker can do to us: restart, forget its queues, cut us off, hear nobody, say no."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import aio_pika
import pytest

from taskqueue.broker.amqp import consumers, driver, topology
from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, PUBLISH_TIMEOUT_SECONDS, QUEUE, Broker, Holdings, Subscription
from taskqueue.clock import system_clock
from taskqueue.errors import BrokerUnavailable
from tests.support.eventually import eventually
from tests.support.inbox import Inbox
from tests.support.ports import free_port
from tests.support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.docker

RECOVERY_SECONDS = 30.0
AT_ONCE_SECONDS = 1.0


async def test_publishing_goes_on_after_a_restart(broker: Broker, rabbitmq: RabbitMQ) -> None:
    """While the broker is away a publish fails at once; when it is back, messages from before are still there."""
    await broker.publish([b"before"])
    await _stop(rabbitmq)
    try:
        await eventually(lambda: not broker.connected)
        with pytest.raises(BrokerUnavailable):
            await broker.publish([b"during"])
        with pytest.raises(BrokerUnavailable):
            await broker.ready_count()
    finally:
        await _start(rabbitmq)

    await _eventually_confirmed(broker, b"after")

    assert await broker.ready_count() == 2


async def test_a_broker_that_is_away_says_since_when(broker: Broker, rabbitmq: RabbitMQ) -> None:
    """From the moment of the loss on, however often it was tried again; and no more once it is back."""
    await eventually(lambda: broker.connected, within=RECOVERY_SECONDS)
    assert broker.away_since is None
    before = system_clock()
    await _stop(rabbitmq)
    try:
        since = await eventually(lambda: broker.away_since)
        assert before <= since <= system_clock()
        await asyncio.sleep(2)  # some attempts to connect
        assert broker.away_since == since
    finally:
        await _start(rabbitmq)

    await eventually(lambda: broker.connected, within=RECOVERY_SECONDS)
    await eventually(lambda: broker.away_since is None)


async def test_consuming_goes_on_after_a_restart(broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """Both consumers are back, and what was not acknowledged comes again."""
    await broker.publish([b"acknowledged", b"held"])
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        deliveries = await inbox.expect(2)
        (acknowledged,) = [delivery for delivery in deliveries if delivery.body == b"acknowledged"]
        await acknowledged.ack()
        await _stop(rabbitmq)
        try:
            await eventually(lambda: not subscription.consuming)
        finally:
            await _start(rabbitmq)

        await _eventually_consuming(subscription)
        await _eventually_confirmed(broker, b"new")
        await inbox.expect(4)
        assert await _consumers(rabbitmq) == [5, 5]

    assert sorted(inbox.bodies[2:]) == [b"held", b"new"]


async def test_connections_that_an_operator_closes_come_back(broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """Again and again, for publishing and consuming; what was held comes again, and nothing is lost."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)
        await _eventually_confirmed(broker, b"held")
        for again in range(1, 4):
            await inbox.expect(again)
            await asyncio.to_thread(rabbitmq.close_connections)
            await inbox.expect(again + 1, within=RECOVERY_SECONDS)
            await _eventually_consuming(subscription)
        await _eventually_confirmed(broker, b"new")
        await eventually(lambda: b"new" in inbox.bodies)

    assert set(inbox.bodies) == {b"held", b"new"}


async def test_what_is_acknowledged_at_once_takes_nothing_else_with_it(broker: Broker, inbox: Inbox) -> None:
    """One frame is for several: what was not acknowledged, or was given back, comes again, and nothing besides."""
    bodies = [b"%d" % number for number in range(10)]
    await broker.publish(bodies)
    async with broker.subscribe(inbox, channels=1, prefetch_count=10):
        deliveries = await inbox.expect(10)
        await asyncio.gather(*(deliveries[number].ack() for number in (6, 1, 0, 4)))
        await deliveries[2].release()
        (*_, back) = await inbox.expect(11)
        await asyncio.gather(back.ack(), deliveries[3].ack(), deliveries[5].ack())

    async with broker.subscribe(again := Inbox(), channels=1, prefetch_count=10):
        await again.expect(3)
        await asyncio.sleep(AT_ONCE_SECONDS)  # no fourth
    assert sorted(again.bodies) == [bodies[7], bodies[8], bodies[9]]


async def test_a_deleted_queue_is_made_again_by_its_consumer(broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """RabbitMQ cancels the consumers; they are back with the queue, and messages arrive."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)
        await asyncio.to_thread(rabbitmq.ctl, "delete_queue", QUEUE)

        await _eventually_confirmed(broker, b"new")
        await inbox.expect(1, within=RECOVERY_SECONDS)
        await _eventually_consuming(subscription)

    assert inbox.bodies == [b"new"]


async def test_a_channel_that_rabbitmq_closes_for_a_late_acknowledgement_is_opened_again(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox
) -> None:
    """After its `consumer_timeout` it cuts the consumer off; what was held comes again, to both consumers, new ones."""
    with rabbitmq.impatient():
        async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
            await _eventually_consuming(subscription)
            await _eventually_confirmed(broker, b"held")
            await inbox.expect(2, within=RECOVERY_SECONDS)
            for delivery in inbox.deliveries:
                await delivery.ack()
            await eventually(lambda: _both_consume(rabbitmq), within=RECOVERY_SECONDS, what="two consumers again")

            await _eventually_confirmed(broker, b"new")
            await eventually(lambda: b"new" in inbox.bodies, within=RECOVERY_SECONDS)


async def test_no_message_to_a_deleted_queue_is_confirmed(broker: Broker, rabbitmq: RabbitMQ) -> None:
    """RabbitMQ acknowledges what it can route nowhere, so an answer of True would lose the message."""
    await asyncio.to_thread(rabbitmq.ctl, "delete_queue", QUEUE)

    answers = await broker.publish([b"%d" % number for number in range(50)])

    assert list(answers) == [False] * 50
    await _eventually_confirmed(broker, b"new")
    assert await broker.ready_count() == 1


async def test_a_deleted_dead_letter_queue_is_made_again(broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """A message that could not be buried comes again, and is buried then."""
    await broker.publish([b"bad"])
    async with broker.subscribe(inbox, channels=1, prefetch_count=1):
        (delivery,) = await inbox.expect(1)
        await asyncio.to_thread(rabbitmq.ctl, "delete_queue", DEAD_LETTER_QUEUE)

        await delivery.bury("bad")
        deliveries = await inbox.expect(2, within=RECOVERY_SECONDS)
        await deliveries[1].bury("bad")

    async with await aio_pika.connect(rabbitmq.url) as connection:
        queue = await (await connection.channel()).get_queue(DEAD_LETTER_QUEUE)
        buried = await queue.get()
        await buried.ack()
    assert [buried.body, *inbox.bodies] == [b"bad"] * 3


async def test_a_full_queue_takes_no_message(broker: Broker, rabbitmq: RabbitMQ) -> None:
    """An operator's limit refuses with an answer, and without losing the connection."""
    limit = json.dumps({"max-length": 2, "overflow": "reject-publish"})
    await asyncio.to_thread(rabbitmq.ctl, "set_policy", "full", f"^{QUEUE}$", limit, "--apply-to", "queues")
    try:

        async def refused() -> bool:
            return list(await broker.publish([b"a"])) == [False]

        await eventually(refused, what="a refusal")
        assert broker.connected
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "clear_policy", "full")


async def test_a_broker_without_memory_confirms_nothing_and_still_hears_acknowledgements(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox
) -> None:
    """A blocked publish is answered within its bound; consumers have a connection that is not blocked."""
    await broker.publish([b"a", b"b"])
    async with broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription:
        await inbox.expect(1)
        with rabbitmq.memory_alarm():
            begun = time.monotonic()
            answers = await broker.publish([b"c"] * 3)
            took = time.monotonic() - begun
            await inbox.deliveries[0].ack()
            await inbox.expect(2)
            assert subscription.consuming

        assert list(answers) == [False] * 3
        assert took < PUBLISH_TIMEOUT_SECONDS + 5
        await _eventually_confirmed(broker, b"d")


async def test_a_message_to_bury_holds_up_no_other_while_the_broker_has_no_memory(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is buried over a connection that publishes: that one is blocked, and acknowledgements are still heard."""
    monkeypatch.setattr(driver, "PUBLISH_TIMEOUT_SECONDS", 0.5)
    await broker.publish([b"bad", b"good", b"next"])
    async with broker.subscribe(inbox, channels=1, prefetch_count=2):
        await inbox.expect(2)
        with rabbitmq.memory_alarm():
            burying = asyncio.create_task(inbox.deliveries[0].bury("bad"))
            await asyncio.sleep(0.1)
            await inbox.deliveries[1].ack()

            await inbox.expect(3)
        await burying


async def test_nothing_piles_up_for_a_broker_without_memory(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is tried again and again meanwhile is not kept by this process, nor sent that often when the alarm ends."""
    monkeypatch.setattr(driver, "PUBLISH_TIMEOUT_SECONDS", 0.2)
    with rabbitmq.memory_alarm():
        for _ in range(10):
            with suppress(BrokerUnavailable):
                assert list(await broker.publish([b"again"] * 10)) == [False] * 10

    async with broker.subscribe(inbox, channels=1, prefetch_count=1_000):
        await _eventually_confirmed(broker, b"end")
        await eventually(lambda: b"end" in inbox.bodies)

    assert inbox.bodies.count(b"again") <= 10


async def test_an_end_is_bounded_while_the_broker_hears_nobody(rabbitmq: RabbitMQ, clean_rabbitmq: RabbitMQ) -> None:
    """A process that is told to stop stops, although a blocked broker does not answer its farewell."""
    with rabbitmq.memory_alarm():
        async with open_broker(clean_rabbitmq.url, "blocked") as broker:
            await eventually(lambda: broker.connected)
            publishing = asyncio.ensure_future(broker.publish([b"a"]))
            await asyncio.sleep(0)
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
        assert list(await publishing) == [False]


async def test_a_broker_that_freezes_is_noticed(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that look open and carry nothing end, publishes are answered, and all is well after the thaw."""
    monkeypatch.setattr(driver, "PUBLISH_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(consumers, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(topology, "RPC_TIMEOUT_SECONDS", 0.5)
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)
        with rabbitmq.frozen():
            assert list(await broker.publish([b"a"])) == [False]
            await eventually(lambda: not subscription.consuming)

        await _eventually_consuming(subscription)
        await _eventually_confirmed(broker, b"b")
        await eventually(lambda: b"b" in inbox.bodies)


async def test_consumers_that_hear_nothing_are_replaced(
    broker: Broker, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where messages are ready and none arrives, whatever the reason, the session is given up for a new one."""
    monkeypatch.setattr(consumers, "WATCH_SECONDS", 0.2)
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)
        await _make_deaf(subscription)
        assert subscription.consuming

        await broker.publish([b"a"])

        await inbox.expect(1, within=RECOVERY_SECONDS)


async def test_one_consumer_of_two_that_hears_nothing_is_noticed(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each consumer is watched by itself: the other one's messages do not hide that this one gets none."""
    monkeypatch.setattr(consumers, "WATCH_SECONDS", 0.2)
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)
        await _make_deaf(subscription, count=1)

        await broker.publish([b"%d" % number for number in range(20)])

        await inbox.expect(5)
        await eventually(lambda: _both_consume(rabbitmq), within=RECOVERY_SECONDS, what="two consumers again")


async def test_an_idle_subscription_is_left_alone(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch replaces nothing while there is nothing to hear, nor while this side has no room."""
    monkeypatch.setattr(consumers, "WATCH_SECONDS", 0.05)
    async with broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription:
        await _eventually_consuming(subscription)
        (before,) = await asyncio.to_thread(rabbitmq.table, "list_consumers", "consumer_tag")
        await broker.publish([b"a", b"b"])
        await inbox.expect(1)

        await asyncio.sleep(0.5)

        assert [before] == await asyncio.to_thread(rabbitmq.table, "list_consumers", "consumer_tag")
        assert inbox.bodies == [b"a"]


@pytest.mark.parametrize("step", [1, 2])
async def test_a_stop_at_any_step_of_the_beginning_leaves_no_consumer(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Not the one that was just being made either: RabbitMQ would go on to hand it messages."""
    declare, steps, begun = topology.declare, iter(range(1, 99)), asyncio.Event()
    started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()

    async def stop_meanwhile(channel: aio_pika.abc.AbstractChannel) -> aio_pika.abc.AbstractQueue:
        queue = await declare(channel)
        if next(steps) == step:
            await (await started).stop()
            begun.set()
        return queue

    monkeypatch.setattr(consumers, "declare", stop_meanwhile)
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        started.set_result(subscription)
        await begun.wait()

        async def left() -> bool:
            return await _consumers(rabbitmq) == []

        await eventually(left)
        await broker.publish([b"a"])
        assert not subscription.consuming
        assert await _consumers(rabbitmq) == []

    assert inbox.bodies == []


async def test_a_session_that_fails_in_an_unforeseen_way_is_tried_again(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that gave up without a word would leave a process that does nothing and looks well."""
    failures = iter([ValueError("unforeseen"), KeyError("unforeseen")])
    declare = topology.declare

    async def fail_at_first(channel: aio_pika.abc.AbstractChannel) -> aio_pika.abc.AbstractQueue:
        for failure in failures:
            raise failure
        return await declare(channel)

    monkeypatch.setattr(consumers, "declare", fail_at_first)
    async with broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription:
        await _eventually_consuming(subscription)


async def test_a_queue_whose_leader_is_silent_is_not_taken_for_an_empty_one(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox
) -> None:
    """RabbitMQ answers 0 then, and whoever believed it would make every message of the backlog a second time."""
    leader = "whereis('%2F_tasks')"
    async with broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription:
        await _eventually_consuming(subscription)
        await broker.publish([b"a"] * 6)
        await inbox.expect(1)
        await asyncio.to_thread(rabbitmq.ctl, "eval", f"sys:suspend({leader}).")
        try:
            with pytest.raises(BrokerUnavailable):
                await broker.ready_count()
        finally:
            await asyncio.to_thread(rabbitmq.ctl, "eval", f"sys:resume({leader}).")

        assert await broker.ready_count() == 5


async def test_both_queues_are_quorum_queues(broker: Broker, rabbitmq: RabbitMQ) -> None:
    """Durable and replicated; what is delivered too often, or refused, goes to the dead letters and is not dropped."""
    assert broker.connected

    queues = await asyncio.to_thread(rabbitmq.table, "list_queues", "name", "type", "durable", "arguments")

    found = {queue["name"]: queue for queue in queues}
    assert set(found) == {QUEUE, DEAD_LETTER_QUEUE}
    assert all((queue["type"], queue["durable"]) == ("quorum", True) for queue in found.values())
    assert _table(found[QUEUE]["arguments"]) == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 100,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_LETTER_QUEUE,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert _table(found[DEAD_LETTER_QUEUE]["arguments"]) == {"x-queue-type": "quorum"}


async def test_messages_are_persistent(broker: Broker, clean_rabbitmq: RabbitMQ) -> None:
    """They survive in any queue that an operator may move them to."""
    await broker.publish([b"{}"])

    async with await aio_pika.connect(clean_rabbitmq.url) as connection:
        queue = await (await connection.channel()).get_queue(QUEUE)
        message = await queue.get()
        await message.ack()

    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.content_type == "application/json"


async def test_rabbitmq_lists_two_channels_with_a_prefetch_of_five(
    broker: Broker, rabbitmq: RabbitMQ, inbox: Inbox
) -> None:
    """The prefetch is each consumer's own, on a connection that publishes nothing, and every connection has a name."""
    async with broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription:
        await _eventually_consuming(subscription)

        assert await _consumers(rabbitmq) == [5, 5]
        channels = await asyncio.to_thread(
            rabbitmq.table, "list_channels", "connection", "consumer_count", "prefetch_count"
        )
        connections = await asyncio.to_thread(rabbitmq.table, "list_connections", "pid", "client_properties")

    consuming = [channel for channel in channels if channel["consumer_count"]]
    assert [channel["consumer_count"] for channel in consuming] == [1, 1]
    assert len({channel["connection"] for channel in consuming}) == 1
    assert sorted(_name(connection) for connection in connections) == ["on trial consuming", "on trial publishing"]


async def test_nothing_is_left_behind(clean_rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """When the block ends, so do its connections."""
    async with (
        open_broker(clean_rabbitmq.url, "short") as broker,
        broker.subscribe(inbox, channels=2, prefetch_count=5) as subscription,
    ):
        await _eventually_consuming(subscription)

    async def gone() -> bool:
        return not await asyncio.to_thread(clean_rabbitmq.table, "list_connections", "pid")

    await eventually(gone)
    assert not broker.connected
    with pytest.raises(BrokerUnavailable):
        await broker.publish([b"a"])


async def test_a_queue_with_other_arguments_is_waited_out(clean_rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """RabbitMQ refuses it each time; nothing crashes, nothing is published, and all is well once it is gone."""
    async with await aio_pika.connect(clean_rabbitmq.url) as operator:
        await (await operator.channel()).declare_queue(QUEUE, durable=True)
        async with (
            open_broker(clean_rabbitmq.url, "refused") as broker,
            broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription,
        ):
            await asyncio.sleep(1)
            assert not subscription.consuming
            with pytest.raises(BrokerUnavailable):
                await broker.publish([b"a"])

            await (await operator.channel()).queue_delete(QUEUE)

            await _eventually_confirmed(broker, b"b")
            await _eventually_consuming(subscription)


async def test_a_wrong_password_is_no_crash(clean_rabbitmq: RabbitMQ, inbox: Inbox) -> None:
    """The broker is not connected, as long as it takes; the process lives, and can tell so."""
    wrong = clean_rabbitmq.url.replace("only-for-tests", "wrong")

    async with (
        open_broker(wrong, "stranger") as broker,
        broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription,
    ):
        await asyncio.sleep(1)

        assert not broker.connected
        assert not subscription.consuming
        with pytest.raises(BrokerUnavailable):
            await broker.publish([b"a"])


async def test_a_password_that_becomes_right_is_tried_again(clean_rabbitmq: RabbitMQ) -> None:
    """Who changes a password in the broker need not restart anything."""
    await asyncio.to_thread(clean_rabbitmq.ctl, "add_user", "rotated", "old")
    await asyncio.to_thread(clean_rabbitmq.ctl, "set_permissions", "rotated", ".*", ".*", ".*")
    try:
        async with open_broker(clean_rabbitmq.url.replace("taskqueue:only-for-tests", "rotated:new"), "r") as broker:
            await asyncio.sleep(0.5)
            assert not broker.connected

            await asyncio.to_thread(clean_rabbitmq.ctl, "change_password", "rotated", "new")

            await _eventually_confirmed(broker, b"a")
    finally:
        await asyncio.to_thread(clean_rabbitmq.ctl, "delete_user", "rotated")


async def test_without_a_broker_a_publish_fails_at_once() -> None:
    """Nobody waits for a connection that may never come; opening and closing do not wait either."""
    begun = time.monotonic()

    async with open_broker(f"amqp://taskqueue@127.0.0.1:{free_port()}/", "lonely") as broker:
        with pytest.raises(BrokerUnavailable):
            await broker.publish([b"a"])
        with pytest.raises(BrokerUnavailable):
            await broker.ready_count()
        assert not broker.connected

    assert time.monotonic() - begun < AT_ONCE_SECONDS


async def test_a_broker_that_accepts_and_says_nothing_is_no_broker(inbox: Inbox) -> None:
    """A port that takes connections and does not speak, or hangs up, leaves us unconnected and alive."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            open_broker(f"amqp://taskqueue@127.0.0.1:{port}/", "puzzled") as broker,
            broker.subscribe(inbox, channels=1, prefetch_count=1) as subscription,
        ):
            await asyncio.sleep(1)

            assert not broker.connected
            assert not subscription.consuming


@pytest.fixture
async def broker(clean_rabbitmq: RabbitMQ) -> AsyncIterator[Broker]:
    """The real broker, without messages, and connected."""
    async with open_broker(clean_rabbitmq.url, "on trial") as opened:
        await eventually(lambda: opened.connected, what="the connection")
        yield opened


async def _stop(rabbitmq: RabbitMQ) -> None:
    await asyncio.to_thread(rabbitmq.stop_app)


async def _start(rabbitmq: RabbitMQ) -> None:
    await asyncio.to_thread(rabbitmq.start_app)


async def _eventually_confirmed(broker: Broker, body: bytes) -> None:
    """Publishes until the broker takes it once, as the dispatcher with its sweep would."""

    async def confirmed() -> bool:
        try:
            return list(await broker.publish([body])) == [True]
        except BrokerUnavailable:
            return False

    await eventually(confirmed, within=RECOVERY_SECONDS, what="a confirmed publish")


async def _eventually_consuming(subscription: Subscription) -> None:
    await eventually(lambda: subscription.consuming, within=RECOVERY_SECONDS, what="consuming")


async def _consumers(rabbitmq: RabbitMQ) -> list[int]:
    """The prefetch of each consumer of tasks."""
    listed = await asyncio.to_thread(rabbitmq.table, "list_consumers", "queue_name", "prefetch_count")
    return [consumer["prefetch_count"] for consumer in listed if consumer["queue_name"] == QUEUE]


async def _both_consume(rabbitmq: RabbitMQ) -> bool:
    return await _consumers(rabbitmq) == [5, 5]


async def _make_deaf(subscription: Subscription, *, count: int = 2) -> None:
    """Cancels so many consumers behind the subscription's back."""
    assert isinstance(subscription, consumers.AmqpSubscription)
    assert subscription._current is not None
    for consumer in subscription._current._consumers[:count]:
        await consumer.channel.basic_cancel(consumer.tag)


def _table(listed: object) -> dict[str, object]:
    """A table as `rabbitmqctl` lists it: an object, or triples of name, type and value."""
    if isinstance(listed, dict):
        return listed
    assert isinstance(listed, list)
    return {name: value for name, _, value in listed}


def _name(connection: dict[str, object]) -> str:
    return str(_table(connection["client_properties"])["connection_name"])


async def test_what_it_holds_is_told_and_a_missing_dead_letter_queue_costs_no_connection(
    clean_rabbitmq: RabbitMQ,
) -> None:
    """An audit asks for it, again and again: the connection is the same, and no channel is left over."""
    inbox = Inbox()
    async with (
        open_broker(clean_rabbitmq.url, "asking") as broker,
        broker.subscribe(inbox, channels=1, prefetch_count=1),
    ):
        await eventually(lambda: broker.connected, what="the connection")
        await broker.publish([b"1", b"2", b"3"])
        await eventually(lambda: len(inbox.deliveries) == 1, what="a delivery")
        await inbox.deliveries[0].bury("nobody can read it")
        await eventually(lambda: len(inbox.deliveries) == 2, what="the next one")
        held = [await broker.holdings() for _ in range(3)]
        before = clean_rabbitmq.table("list_channels", "pid")
        await asyncio.to_thread(clean_rabbitmq.ctl, "delete_queue", DEAD_LETTER_QUEUE)
        without = [await broker.holdings() for _ in range(3)]

        assert held == [Holdings(ready=1, unacknowledged=None, dead=1)] * 3
        assert without == [Holdings(ready=1, unacknowledged=None, dead=0)] * 3
        assert clean_rabbitmq.table("list_channels", "pid") == before
        assert broker.connected


@pytest.mark.parametrize("harm", ["memory_alarm", "frozen"])
async def test_what_it_holds_is_asked_within_a_bound(clean_rabbitmq: RabbitMQ, harm: str) -> None:
    """Whatever the broker does: it answers, or is unavailable; an audit does not hang on it."""
    inbox = Inbox()
    async with (
        open_broker(clean_rabbitmq.url, "asking") as broker,
        broker.subscribe(inbox, channels=1, prefetch_count=1),
    ):
        await eventually(lambda: broker.connected, what="the connection")
        await broker.publish([b"1", b"2"])
        with getattr(clean_rabbitmq, harm)():
            with suppress(BrokerUnavailable):
                await broker.publish([b"3"])  # only now does an alarm block the connection
            async with asyncio.timeout(4 * PUBLISH_TIMEOUT_SECONDS):
                with suppress(BrokerUnavailable):
                    await broker.holdings()

        async def told() -> bool:
            with suppress(BrokerUnavailable):
                return (await broker.holdings()).dead == 0
            return False

        await eventually(told, within=RECOVERY_SECONDS, what="an answer")
