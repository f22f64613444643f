"""The limit of the broker: messages per second, through our driver and through bare aiormq; JSON to stdout."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

import aiormq
import uvloop
from pamqp.commands import Basic

from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import Broker, Delivery

BODY: Final = b'{"v":1,"id":"0c9a4a0e-2f0b-4a5e-bb7c-5f7f4a3f9f11","action":"uppercase","data":{"text":"to be"}}'
BATCH: Final = 100
IN_FLIGHT: Final = 4
BARE_QUEUE: Final = "bare"
GIVE_UP_SECONDS: Final = 60.0


def main() -> None:
    """Measures at the URL that the first argument says, for so many seconds each as the second says."""
    print(json.dumps(uvloop.run(_measure(sys.argv[1], float(sys.argv[2])))))


async def _measure(url: str, seconds: float) -> dict[str, dict[str, float]]:
    return {"our driver": await _ours(url, seconds), "bare aiormq": await _bare(url, seconds)}


async def _ours(url: str, seconds: float) -> dict[str, float]:
    async with open_broker(url, "bench") as broker, asyncio.timeout(seconds + GIVE_UP_SECONDS):
        while not broker.connected:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
        sent, published = await _publish(lambda: broker.publish([BODY] * BATCH), seconds)
        return {"publish_confirm_per_s": published, "consume_ack_per_s": await _consume_ours(broker, sent)}


async def _publish(publish_batch: Callable[[], Awaitable[Any]], seconds: float) -> tuple[int, float]:
    """So many batches in flight, each after the confirm of the last one: how many messages, and per second."""
    sent, began = 0, time.monotonic()

    async def publish_again_and_again() -> None:
        nonlocal sent
        while time.monotonic() < began + seconds:
            await publish_batch()
            sent += BATCH

    await asyncio.gather(*(publish_again_and_again() for _ in range(IN_FLIGHT)))
    return sent, sent / (time.monotonic() - began)


async def _consume_ours(broker: Broker, count: int) -> float:
    received: asyncio.Queue[Delivery] = asyncio.Queue()
    began = time.monotonic()
    async with broker.subscribe(received.put_nowait, channels=2, prefetch_count=5):
        first = await received.get()
        began = time.monotonic()
        await first.ack()
        for _ in range(count - 1):
            await (await received.get()).ack()
        return (count - 1) / (time.monotonic() - began)


async def _bare(url: str, seconds: float) -> dict[str, float]:
    connection = await aiormq.connect(url)
    channel = cast("aiormq.Channel", await connection.channel())
    await channel.queue_declare(BARE_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    properties = Basic.Properties(delivery_mode=2)
    publish = partial(
        channel.basic_publish, BODY, routing_key=BARE_QUEUE, properties=properties, mandatory=True, wait=False
    )

    async def publish_batch() -> None:
        await asyncio.gather(*(publish() for _ in range(BATCH)))

    async with asyncio.timeout(seconds + GIVE_UP_SECONDS):
        sent, published = await _publish(publish_batch, seconds)
        consumed = await _consume_bare(channel, sent)
    await connection.close()
    return {"publish_confirm_per_s": published, "consume_ack_per_s": consumed}


async def _consume_bare(channel: Any, count: int) -> float:
    moments: list[float] = []
    done = asyncio.Event()

    async def on_message(message: Any) -> None:
        moments.append(time.monotonic())
        await channel.basic_ack(message.delivery_tag, wait=False)
        if len(moments) == count:
            done.set()

    await channel.basic_qos(prefetch_count=10)
    await channel.basic_consume(BARE_QUEUE, on_message)
    await done.wait()
    return (count - 1) / (moments[-1] - moments[0])


if __name__ == "__main__":
    main()
