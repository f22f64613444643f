"""What a worker makes of messages: each starts a task once at most, whoever sent it and however often it comes."""

import json
from typing import Any
from uuid import uuid4

import pytest

from taskqueue import events
from taskqueue.actions import action
from taskqueue.clock import system_clock
from taskqueue.schema import NORMAL, TaskMessage, TaskStatus
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.worker.conftest import Gate, Workshop


async def test_a_message_that_comes_twice_at_once_starts_one_attempt(workshop: Workshop, gate: Gate) -> None:
    """The second is dropped while the first is at work, and the task is performed once."""
    gated = _gated(gate)
    async with workshop.working(gated):
        payload = await workshop.record("wait")
        message = TaskMessage.of(payload, 0, 0).encode()
        await workshop.broker.publish([message] * 8)
        await gate.arrived()
        await _nothing_in_hand(workshop, but=1)

        gate.open()
        task = await workshop.finished(payload.id)

    assert (task.status, task.attempts, gate.arrivals) == (TaskStatus.COMPLETED, 1, 1)
    assert len(workshop.reports(events.TASK_COMPLETED)) == 1


async def test_a_message_that_comes_after_the_end_is_dropped(workshop: Workshop, gate: Gate) -> None:
    """A final task never changes again."""
    gate.open()
    async with workshop.working(_gated(gate)):
        task_id = await workshop.submit("wait")
        before = await workshop.finished(task_id)
        await workshop.broker.publish(
            [TaskMessage(id=task_id, action="wait", attempt=attempt).encode() for attempt in range(3)]
        )
        await workshop.outcome("sum")
        await _nothing_in_hand(workshop)

    assert await workshop.task(task_id) == before
    assert gate.arrivals == 1


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_final_task_is_not_performed(workshop: Workshop, gate: Gate, status: str) -> None:
    """However it came to its end, before its message came."""
    payload = await workshop.record("wait")
    change(workshop.database, "UPDATE tasks SET status = ?, due_at = NULL", status)

    async with workshop.working(_gated(gate)):
        await workshop.broker.publish([TaskMessage.of(payload, 0, 0).encode()])
        await workshop.outcome("sum")

    assert (workshop.column(payload.id, "status"), gate.arrivals) == (status, 0)


async def test_a_message_of_an_earlier_attempt_starts_nothing(workshop: Workshop, gate: Gate) -> None:
    """A straggler from before the last retry finds its attempt superseded."""
    payload = await workshop.record("wait")
    change(workshop.database, "UPDATE tasks SET attempt = 2, due_at = due_at + 3600000")

    async with workshop.working(_gated(gate)):
        await workshop.broker.publish([TaskMessage.of(payload, attempt, 0).encode() for attempt in (0, 1, 3)])
        await workshop.outcome("sum")

    assert (workshop.column(payload.id, "status"), gate.arrivals) == ("pending", 0)


async def test_the_row_and_not_the_message_says_what_to_do(workshop: Workshop) -> None:
    """A message is a hint: what was accepted is performed, whatever else the message claims."""
    payload = await workshop.record("uppercase", {"text": "true"})
    lie = {"id": payload.id, "action": "sum", "data": {"numbers": [1]}}

    async with workshop.working():
        await workshop.broker.publish([json.dumps(lie).encode()])
        task = await workshop.finished(payload.id)

    assert task.result == {"output": "TRUE"}
    assert (task.payload["action"], task.payload["data"]) == ("uppercase", {"text": "true"})


async def test_a_task_of_another_producer_is_recorded_and_performed(workshop: Workshop) -> None:
    """Whoever can reach the broker needs to send `id` and `action` alone."""
    task_id = str(uuid4())

    async with workshop.working():
        await workshop.broker.publish(
            [json.dumps({"id": task_id, "action": "uppercase", "data": {"text": "a"}}).encode()]
        )
        await eventually(lambda: rows(workshop.database, "SELECT id FROM tasks"), what="the row")
        task = await workshop.finished(task_id)

    assert (task.status, task.result, task.attempts) == (TaskStatus.COMPLETED, {"output": "A"}, 1)
    assert task.payload == {"id": task_id, "action": "uppercase", "data": {"text": "a"}, "created_at": task.created_at}


async def test_a_task_of_another_producer_is_performed_once(workshop: Workshop, gate: Gate) -> None:
    """It is recorded when it is claimed, so that its duplicates find it at work."""
    async with workshop.working(_gated(gate)):
        await workshop.broker.publish([b'{"id": "one", "action": "wait"}'] * 8)
        await gate.arrived()
        await _nothing_in_hand(workshop, but=1)
        gate.open()

        task = await workshop.finished("one")

    assert (task.attempts, gate.arrivals) == (1, 1)


async def test_a_task_of_another_producer_is_tried_again_like_any_other(workshop: Workshop) -> None:
    """From its first claim on it is a task like those of the API."""

    @action("fail")
    async def fail(_: dict[str, Any]) -> None:
        raise ValueError("no")

    async with workshop.working(fail, max_attempts=2):
        await workshop.broker.publish([b'{"id": "one", "action": "fail"}'])
        await workshop.reported(events.TASK_RETRIED)
        task = await workshop.finished("one")

    assert (task.status, task.attempts, task.error) == (TaskStatus.FAILED, 2, "ValueError: no")


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"hello",
    "binary": b"\x00\xff",
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "no object": b"[]",
    "no id": b'{"action": "a"}',
    "an empty id": b'{"id": "", "action": "a"}',
    "a long id": b'{"id": "' + b"x" * 201 + b'", "action": "a"}',
    "an id that is no string": b'{"id": 1, "action": "a"}',
    "no action": b'{"id": "1"}',
    "a long action": b'{"id": "1", "action": "' + b"x" * 201 + b'"}',
    "data that is no object": b'{"id": "1", "action": "a", "data": []}',
    "another version": b'{"v": 2, "id": "1", "action": "a"}',
    "a negative attempt": b'{"id": "1", "action": "a", "attempt": -1}',
    "an attempt beyond any database": b'{"id": "1", "action": "a", "attempt": %d}' % 10**30,
    "an instant beyond any database": b'{"id": "1", "action": "a", "created_at": %d}' % 10**30,
    "a dispatch beyond any database": b'{"id": "1", "action": "a", "dispatched_at": %d}' % 10**30,
    "endless nesting": b'{"id": "1", "action": "a", "data": {"a": ' + b"[" * 100_000,
    "a lone surrogate": b'{"id": "\\ud800", "action": "a"}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_message_that_cannot_be_read_is_buried_with_the_reason(workshop: Workshop, body: bytes) -> None:
    """It goes to the dead letters as it came, an operator finds out why, and the worker works on."""
    async with workshop.working(channels=1, prefetch_count=1):
        await workshop.broker.publish([body])
        assert (await workshop.outcome("sum")).status == TaskStatus.COMPLETED

    [(buried, reason)] = workshop.broker.dead_letters
    assert buried == body
    [entry] = workshop.reports(events.MESSAGE_BURIED)
    assert entry["reason"] == reason != ""
    assert len(rows(workshop.database, "SELECT id FROM tasks")) == 1


async def test_a_message_from_the_future_does_not_make_others_seem_lost(workshop: Workshop) -> None:
    """Another producer's clock, or its malice, does not count against the messages that still wait."""
    tomorrow = system_clock() + 86_400_000
    async with workshop.working() as working:
        payload = await workshop.record("sum")
        await workshop.broker.publish([TaskMessage.of(payload, 0, tomorrow).encode()])
        await workshop.finished(payload.id)

        assert working.deliveries.youngest(NORMAL) == 0


async def _nothing_in_hand(workshop: Workshop, *, but: int = 0) -> None:
    """Returns once the worker has settled every message, save so many."""

    def unsettled() -> int:
        return len(workshop.broker._ready) + sum(len(channel.unsettled) for channel in workshop.broker._channels)

    await eventually(lambda: unsettled() == but, what=f"{but} unsettled messages")


def _gated(gate: Gate) -> Any:
    @action("wait")
    async def wait(_: dict[str, Any]) -> None:
        await gate.pass_through()

    return wait
