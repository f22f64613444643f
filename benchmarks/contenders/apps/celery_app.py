"""FastAPI + Celery, with quorum queues and late acknowledgement as its guide to RabbitMQ has them.

docs.celeryq.dev: getting-started/backends-and-brokers/rabbitmq (quorum queues, native delayed delivery, which needs a
topic exchange), userguide/optimizing (prefetch). Publisher confirms: kombu.transport.pyamqp.
"""

from typing import Any
from uuid import uuid4

from celery import Celery
from fastapi import FastAPI

from benchmarks.contenders.apps.request import TaskRequest, accepted
from benchmarks.contenders.apps.work import BROKER_URL, CONCURRENCY, perform, use_one_sqlite

use_one_sqlite()

from benchmarks.contenders.apps.blocking_results import record  # noqa: E402

celery = Celery("bench", broker=BROKER_URL)
celery.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    task_acks_late=True,
    task_ignore_result=True,
    worker_concurrency=CONCURRENCY,
    worker_prefetch_multiplier=1,
)

app = FastAPI()


@celery.task(name="perform")
def perform_task(task_id: str, action: str, data: dict[str, Any]) -> None:
    """The task."""
    record(task_id, perform(action, data))


# `delay` blocks, and FastAPI's documentation has such code in a plain `def`, which runs in its thread pool.
@app.post("/tasks", status_code=202)
def submit(request: TaskRequest) -> dict[str, str]:
    """The endpoint."""
    task_id = str(uuid4())
    perform_task.delay(task_id, request.action, request.data)
    return accepted(task_id)
