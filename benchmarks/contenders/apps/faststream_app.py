"""FastAPI + FastStream for RabbitMQ: the broker lives with the API; `faststream run` runs the same subscriber.

faststream.ag2.ai: rabbit (queues, publishing, acknowledgement), getting-started (lifespan, FastAPI, CLI).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from faststream import FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from pydantic import BaseModel

from benchmarks.contenders.apps.async_results import Results
from benchmarks.contenders.apps.request import TaskRequest, accepted
from benchmarks.contenders.apps.work import BROKER_URL, CONCURRENCY, perform


class TaskMessage(BaseModel):
    """What travels."""

    id: str
    action: str
    data: dict[str, Any]


queue = RabbitQueue("tasks", queue_type=QueueType.QUORUM, durable=True)
results = Results()

# The worker's side: `faststream run benchmarks.contenders.apps.faststream_app:worker`.
consuming = RabbitBroker(BROKER_URL, default_channel=Channel(prefetch_count=CONCURRENCY))
worker = FastStream(consuming)


@worker.on_startup
async def open_results() -> None:
    """Before the first message."""
    await results.open()


@worker.after_shutdown
async def close_results() -> None:
    """After the last message."""
    await results.close()


@consuming.subscriber(queue)
async def perform_task(message: TaskMessage) -> None:
    """The task."""
    await results.record(message.id, perform(message.action, message.data))


# The API's side.
publishing = RabbitBroker(BROKER_URL)
publisher = publishing.publisher(queue, persist=True)


@asynccontextmanager
async def _connected(_: FastAPI) -> AsyncIterator[None]:
    await publishing.start()
    await publishing.declare_queue(queue)  # a publisher does not: what nobody has subscribed to yet would be lost
    yield
    await publishing.stop()


app = FastAPI(lifespan=_connected)


@app.post("/tasks", status_code=202)
async def submit(request: TaskRequest) -> dict[str, str]:
    """The endpoint."""
    message = TaskMessage(id=str(uuid4()), action=request.action, data=request.data)
    await publisher.publish(message)
    return accepted(message.id)
