"""FastAPI + taskiq with taskiq-aio-pika, whose queue is a quorum queue by default.

taskiq-python.github.io: guide/getting-started, guide/state-and-deps (events), framework_integrations (the broker starts
with the app).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker

from benchmarks.contenders.apps.async_results import Results
from benchmarks.contenders.apps.request import TaskRequest, accepted
from benchmarks.contenders.apps.work import BROKER_URL, CONCURRENCY, perform

broker = AioPikaBroker(BROKER_URL, qos=CONCURRENCY)
results = Results()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_results(_: TaskiqState) -> None:
    """Before the first task."""
    await results.open()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_results(_: TaskiqState) -> None:
    """After the last task."""
    await results.close()


@broker.task
async def perform_task(task_id: str, action: str, data: dict[str, Any]) -> None:
    """The task."""
    await results.record(task_id, perform(action, data))


@asynccontextmanager
async def _connected(_: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=_connected)


@app.post("/tasks", status_code=202)
async def submit(request: TaskRequest) -> dict[str, str]:
    """The endpoint."""
    task_id = str(uuid4())
    await perform_task.kiq(task_id, request.action, request.data)
    return accepted(task_id)
