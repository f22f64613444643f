"""The rows and the messages that the first release left behind are taken up by this one.

`first_release/` was recorded from that release's own services around a real RabbitMQ: tasks that ended, two whose
worker was killed, three that RabbitMQ held, two that it never heard of. Only the day is another one.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import QUEUE
from taskqueue.schema import TaskMessage
from taskqueue_migrate.runner import upgrade
from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.rabbitmq import RabbitMQ

LEFT = Path(__file__).with_name("first_release")
MESSAGES = (LEFT / "messages.jsonl").read_bytes().splitlines()
END_SECONDS = 60.0
ENDED = ("completed", "failed")

Row = dict[str, Any]


@pytest.fixture(name="left")
def _left(database: Path) -> list[Row]:
    """The rows as they were, in a database at the newest revision."""
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((LEFT / "tasks.sql").read_text())
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM tasks")]
    upgrade(database)
    return rows


def test_the_record_has_every_kind_of_row() -> None:
    """What is tested below is what the first release knew; it had no way to cancel."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((LEFT / "tasks.sql").read_text())
        found = dict(connection.execute("SELECT status, count(*) FROM tasks GROUP BY status").fetchall())

    assert found == {"completed": 3, "failed": 1, "running": 2, "queued": 3, "pending": 2}


@pytest.mark.parametrize("body", MESSAGES)
def test_a_message_of_the_first_release_is_read(body: bytes) -> None:
    """Member by member, as it was written; what it does not say has the meaning that it had."""
    message = TaskMessage.decode(body)

    assert {name: value for name, value in message.model_dump().items() if name in json.loads(body)} == json.loads(body)
    assert (message.priority, message.alone) == (0, False)


async def test_embedded_mode_finishes_what_was_left(
    left: list[Row], database: Path, start_service: StartService
) -> None:
    """Every task ends with its right result, and what had ended is as it was."""
    service = start_service("taskqueue_embedded", PORT=0, **_settings(database))

    async with http_client(await service.url()) as http:
        await _all_are_right(http, left)


@pytest.mark.docker
async def test_the_services_finish_what_was_left_with_its_messages(
    left: list[Row], database: Path, start_service: StartService, clean_rabbitmq: RabbitMQ
) -> None:
    """The old messages are still in the queue: each task is performed once, whichever message comes first."""
    await _fill_queue(clean_rabbitmq)
    settings = _settings(database) | {"BROKER_URL": clean_rabbitmq.url}
    api = start_service("taskqueue_api", PORT=0, **settings)
    start_service("taskqueue_worker", SIMULATED_WORK_SECONDS=0, **settings)

    async with http_client(await api.url()) as http:
        await _all_are_right(http, left)


async def _all_are_right(http: Http, left: list[Row]) -> None:
    tasks = {row["id"]: await http.finished(row["id"], within=END_SECONDS) for row in left}
    for row in left:
        task = tasks[row["id"]]
        assert task["payload"] == json.loads(row["payload"])
        assert task["created_at"] == row["created_at"]
        if row["status"] in ENDED:
            assert (task["status"], task["processed_at"]) == (row["status"], row["processed_at"])
            assert task["result"] == (json.loads(row["result"]) if row["result"] else None)
            assert (task["error"], task["attempts"]) == (row["error"], row["attempt"])
        else:
            assert (task["status"], task["result"]) == ("completed", _right(task["payload"]))
            assert task["history"][-1]["attempt"] == row["attempt"] + 1


def _right(payload: Row) -> Row:
    data = payload["data"]
    done: dict[str, object] = {"uppercase": data.get("text", "").upper(), "sum": sum(data.get("numbers", []))}
    return {"output": done.get(payload["action"], "processed")}


async def _fill_queue(rabbitmq: RabbitMQ) -> None:
    """Puts the messages into the queue as they were, byte for byte."""
    async with open_broker(rabbitmq.url, "to make the queues") as broker:
        await eventually(lambda: broker.connected, within=END_SECONDS)
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        for body in MESSAGES:
            await channel.default_exchange.publish(aio_pika.Message(body), QUEUE)


def _settings(database: Path) -> dict[str, object]:
    return {"DATABASE_URL": f"sqlite:///{database}", "RETENTION_DAYS": 0, "LOG_FORMAT": "json"}
