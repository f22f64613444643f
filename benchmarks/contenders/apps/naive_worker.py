"""aio-pika + aiosqlite, as a tutorial would do it: a callback on a channel with a prefetch of 10."""

import asyncio
import json

import aio_pika
import uvloop

from benchmarks.contenders.apps.async_results import Results
from benchmarks.contenders.apps.naive_api import QUEUE
from benchmarks.contenders.apps.work import BROKER_URL, CONCURRENCY, perform


async def work() -> None:
    """Consumes until the process ends."""
    results = Results()
    await results.open()

    async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with message.process():
            task = json.loads(message.body)
            await results.record(task["id"], perform(task["action"], task["data"]))

    connection = await aio_pika.connect_robust(BROKER_URL)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=CONCURRENCY)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.consume(on_message)
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(work())
