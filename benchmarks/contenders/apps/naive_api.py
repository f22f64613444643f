"""aiohttp + aio-pika, as a tutorial would do it: publish with a confirm, answer, keep nothing."""

import json
import os
from collections.abc import AsyncIterator
from typing import Final
from uuid import uuid4

import aio_pika
import uvloop
from aiohttp import web

from benchmarks.contenders.apps.work import BROKER_URL

QUEUE: Final = "tasks"
CHANNEL: Final = web.AppKey("channel", aio_pika.abc.AbstractChannel)


async def submit(request: web.Request) -> web.Response:
    """The endpoint."""
    try:
        asked = json.loads(await request.read())
    except ValueError:
        return web.json_response({"error": "invalid JSON"}, status=400)
    if not asked.get("action"):
        return web.json_response({"error": "action required"}, status=400)
    task = {"id": str(uuid4()), "action": asked["action"], "data": asked.get("data", {})}
    message = aio_pika.Message(json.dumps(task).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await request.app[CHANNEL].default_exchange.publish(message, routing_key=QUEUE)
    return web.json_response({"id": task["id"], "status": "queued"}, status=202)


async def connected(app: web.Application) -> AsyncIterator[None]:
    """Holds a channel for as long as the app runs."""
    connection = await aio_pika.connect_robust(BROKER_URL)
    async with connection:
        app[CHANNEL] = await connection.channel()
        await app[CHANNEL].declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        yield


def main() -> None:
    """Serves on BENCH_PORT."""
    uvloop.install()
    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.router.add_post("/tasks", submit)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), print=None, access_log=None)


if __name__ == "__main__":
    main()
