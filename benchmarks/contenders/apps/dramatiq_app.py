"""FastAPI + dramatiq on RabbitMQ, with confirms; it declares classic durable queues, and has no way to another kind.

dramatiq.io: guide, reference (RabbitmqBroker, confirm_delivery), advanced (prefetch, by an environment variable).
"""

from typing import Any
from uuid import uuid4

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from fastapi import FastAPI

from benchmarks.contenders.apps.request import TaskRequest, accepted
from benchmarks.contenders.apps.work import BROKER_URL, perform, use_one_sqlite

use_one_sqlite()

from benchmarks.contenders.apps.blocking_results import record  # noqa: E402

broker = RabbitmqBroker(url=BROKER_URL, confirm_delivery=True)
dramatiq.set_broker(broker)

app = FastAPI()


@dramatiq.actor
def perform_task(task_id: str, action: str, data: dict[str, Any]) -> None:
    """The task."""
    record(task_id, perform(action, data))


# `send` blocks, and holds a connection for each thread; FastAPI's documentation has such code in a plain `def`.
@app.post("/tasks", status_code=202)
def submit(request: TaskRequest) -> dict[str, str]:
    """The endpoint."""
    task_id = str(uuid4())
    perform_task.send(task_id, request.action, request.data)
    return accepted(task_id)
