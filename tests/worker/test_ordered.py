"""What a worker makes of messages whose task somebody has called off, deleted or retried meanwhile."""

import pytest

from taskqueue.actions import Action, action
from taskqueue.clock import system_clock
from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue.store.orders import Cancelled, Deleted, Order
from taskqueue.store.sweeps import Ready
from tests.support.database import rows
from tests.worker.conftest import Workshop


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_message_of_a_task_that_was_called_off_starts_nothing(workshop: Workshop, *, deleted: bool) -> None:
    """It waits in the queue while its task is cancelled, and deleted: the worker drops it, and records nothing."""
    performed: list[str] = []
    task_id = await workshop.submit("note", {"text": "never"})
    assert await workshop.store.cancel(Order(task_id, system_clock())) is Cancelled.AT_ONCE
    if deleted:
        assert await workshop.store.erase(Order(task_id, system_clock())) is Deleted.GONE

    async with workshop.working(_noting(performed)):
        await workshop.outcome("note", {"text": "after"})

    assert performed == ["after"]
    assert await workshop.broker.ready_count() == 0
    left = rows(workshop.database, "SELECT status FROM tasks WHERE id = ?", task_id)
    assert list(left) == ([] if deleted else [("cancelled",)])


async def test_a_retried_task_is_performed_once(workshop: Workshop) -> None:
    """Though the message from before it was called off is still in the queue, beside the new one."""
    performed: list[str] = []
    task_id = await workshop.submit("note", {"text": "once"})
    now = system_clock()
    await workshop.store.cancel(Order(task_id, now))
    ready = await workshop.store.retry(Order(task_id, now, due_at=now + 60_000))
    assert isinstance(ready, Ready)
    await workshop.broker.publish([TaskMessage.of(ready.payload, ready.attempt, now).encode()])

    async with workshop.working(_noting(performed)):
        task = await workshop.finished(task_id)
        await workshop.outcome("note", {"text": "after"})

    assert task.status is TaskStatus.COMPLETED
    assert performed == ["once", "after"]


def _noting(performed: list[str]) -> Action:
    @action("note")
    async def note(data: dict[str, str]) -> None:
        performed.append(data["text"])

    return note
