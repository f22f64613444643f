"""What the memory broker does beyond the contract: it is bounded, as this process's memory is."""

from taskqueue.broker.contract import Delivery
from taskqueue.broker.memory import MemoryBroker
from tests.support.eventually import eventually


async def test_a_full_broker_takes_nothing_more() -> None:
    """What is too much is not confirmed, and stays with its publisher: by number, and by size."""
    by_number, by_size = MemoryBroker(capacity=2), MemoryBroker(capacity_bytes=4)

    assert list(await by_number.publish([b"a", b"b", b"c"])) == [True, True, False]
    assert list(await by_size.publish([b"aa", b"bbb", b"cc"])) == [True, False, True]
    assert (await by_number.ready_count(), await by_size.ready_count()) == (2, 2)


async def test_what_is_delivered_makes_room() -> None:
    """The bound is on what waits."""
    broker = MemoryBroker(capacity_bytes=4)
    received: list[Delivery] = []
    async with broker.subscribe(received.append, channels=1, prefetch_count=1):
        for body in (b"aaaa", b"bbbb", b"cccc"):
            assert list(await broker.publish([body])) == [True]
            await eventually(lambda: received)
            await received.pop().ack()


async def test_what_a_consumer_leaves_comes_again_in_its_order() -> None:
    """As if it had never been delivered."""
    broker = MemoryBroker()
    bodies = [bytes([number]) for number in range(20)]
    await broker.publish(bodies)

    assert [await _leave_unsettled(broker, 20) for _ in range(2)] == [bodies, bodies]


async def _leave_unsettled(broker: MemoryBroker, count: int) -> list[bytes]:
    received: list[Delivery] = []
    async with broker.subscribe(received.append, channels=1, prefetch_count=count):
        await eventually(lambda: len(received) == count)
    return [delivery.body for delivery in received]
