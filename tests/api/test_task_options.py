"""What a client may ask for beside action and data: when, how often, how urgent, under which name."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.schema import HIGH, TaskMessage
from tests.api.conftest import Api
from tests.support.database import rows
from tests.support.eventually import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_options_are_recorded_with_the_task(api: Api) -> None:
    """What the worker goes by is on disk before the answer, in the store's units."""
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    body = {
        "action": "a",
        "timeout": 1.5,
        "max_attempts": 3,
        "priority": 7,
        "tags": ["x", "y", "x"],
        "expires_at": expires_at.isoformat(),
    }

    answer = await api.http.post(body, traceparent=TRACE)

    assert (answer.status, answer.json["status"]) == (202, "queued")
    kept = _kept(api, "action, timeout, max_attempts, priority, tags, traceparent, expires_at")
    assert kept == ("a", 1500, 3, HIGH, '["x","y"]', TRACE, pytest.approx(expires_at.timestamp() * 1000, abs=1))
    assert rows(api.database, "SELECT tag, task_id FROM task_tags") == [
        ("x", answer.json["id"]),
        ("y", answer.json["id"]),
    ]


async def test_an_answer_says_when_to_look_again(api: Api) -> None:
    """A client that polls need not guess how often."""
    assert (await api.http.post({"action": "a"})).headers["Retry-After"] == "1"


@pytest.mark.parametrize("asked", ["delay", "run_at"])
async def test_a_delayed_task_waits_on_disk_until_its_time(api: Api, memory_broker: MemoryBroker, asked: str) -> None:
    """It is `pending`, due at its time, and the broker hears nothing of it before; its neighbour goes at once."""
    when = datetime.now(UTC) + timedelta(hours=1)
    before = system_clock()
    async with api.dispatching():
        delayed = await api.http.post({"action": "a", asked: 3600 if asked == "delay" else when.isoformat()})
        await api.http.submitted("at once")
        [message] = await _messages(memory_broker, 1)

    assert message.action == "at once"
    assert (delayed.status, delayed.json["status"]) == (202, "pending")
    [(due_at, run_at)] = rows(api.database, "SELECT due_at, run_at FROM tasks WHERE id = ?", delayed.json["id"])
    assert due_at == run_at
    assert before + 3_590_000 < due_at <= system_clock() + 3_600_000
    assert rows(api.database, "SELECT status FROM tasks WHERE action = 'a'") == [("pending",)]


async def test_a_time_that_has_passed_is_now(api: Api) -> None:
    """A delay of nothing, and an instant of last year, delay nothing."""
    for asked in ({"delay": 0}, {"run_at": "2020-01-01T00:00:00Z"}):
        assert (await api.http.post({"action": "a"} | asked)).json["status"] == "queued"


async def test_a_priority_goes_with_the_message(api: Api, memory_broker: MemoryBroker) -> None:
    """5 and more is high."""
    async with api.dispatching():
        for priority in (4, 5):
            await api.http.post({"action": str(priority), "priority": priority})
        messages = await _messages(memory_broker, 2)
    assert {message.action: message.priority for message in messages} == {"4": 0, "5": HIGH}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"delay": -1}, "delay must be at least 0"),
    ({"delay": "1"}, "delay must be a number"),
    ({"delay": 1e300}, "delay must be at most 316224000"),
    ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "delay and run_at exclude each other"),
    ({"run_at": 1}, "run_at must be a time with its offset, such as 2026-01-31T12:00:00Z"),
    ({"run_at": "9999-12-31T23:59:59-23:59"}, "run_at must be a time with its offset, such as 2026-01-31T12:00:00Z"),
    ({"run_at": "0001-01-01T00:00:00+23:59"}, "run_at must be a time with its offset, such as 2026-01-31T12:00:00Z"),
    ({"run_at": "2030-01-01T00:00:00"}, "run_at must be a time with its offset, such as 2026-01-31T12:00:00Z"),
    ({"timeout": 0}, "timeout must be greater than 0"),
    ({"max_attempts": 0}, "max_attempts must be at least 1"),
    ({"max_attempts": 1001}, "max_attempts must be at most 1000"),
    ({"max_attempts": 1.5}, "max_attempts must be a whole number"),
    ({"priority": 10}, "priority must be at most 9"),
    ({"priority": True}, "priority must be a whole number"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at must be later than the time at which the task may start"),
    ({"tags": "a"}, "tags must be a list"),
    ({"tags": [1]}, "tags.0 must be a string"),
    ({"tags": [""]}, "tags.0 must not be empty"),
    ({"tags": ["a" * 101]}, "tags.0 must be at most 100 characters long"),
    ({"tags": ["a"] * 21}, "tags must have at most 20 members"),
]


@pytest.mark.parametrize(("asked", "sentence"), BAD, ids=lambda value: str(value)[:40])
async def test_an_option_that_cannot_be_is_refused(api: Api, asked: dict[str, Any], sentence: str) -> None:
    """400, a sentence that names the member, and nothing is recorded."""
    assert (await api.http.post({"action": "a"} | asked)).is_error(400, sentence)
    assert rows(api.database, "SELECT id FROM tasks") == []


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "nonsense",
        TRACE.upper(),
        f"{TRACE}-more",
        TRACE.replace("00-", "ff-", 1),
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
async def test_a_malformed_trace_is_left_aside(api: Api, sent: str) -> None:
    """As the specification has it: the task is accepted, and has no trace."""
    assert (await api.http.post({"action": "a"}, traceparent=sent)).status == 202
    assert _kept(api, "traceparent") == (None,)


def _kept(api: Api, columns: str) -> tuple[Any, ...]:
    [found] = rows(api.database, f"SELECT {columns} FROM tasks")  # noqa: S608 - of our own making
    return found


async def _messages(broker: MemoryBroker, count: int) -> list[TaskMessage]:
    received: list[bytes] = []
    async with broker.subscribe(lambda delivery: received.append(delivery.body), channels=1, prefetch_count=5):
        await eventually(lambda: len(received) == count, what="the messages")
    return [TaskMessage.decode(body) for body in received]
