"""Tasks in the store, brought to where a test begins, and looked at from outside."""

from pathlib import Path
from typing import Any, Final

from taskqueue.clock import system_clock
from taskqueue.requests import TaskRequest
from taskqueue.schema import NORMAL, Task, TaskMessage, TaskOptions, TaskPayload, TaskStatus
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.database import rows
from tests.support.frozen_clock import START

LEASE: Final = 30_000
CHALLENGE: Final = 5_000
DISPATCH_LEASE: Final = 8_000

_COLUMNS: Final = (
    "id, payload, status, result, created_at, processed_at, accepted_at, due_at, queued_at, started_at, attempt, "
    "forgiven, worker, error, ended_at, history, lost, alone, cancel_requested_at"
)


def row(database: Path, task_id: str) -> dict[str, Any]:
    """Every column of a task."""
    (found,) = rows(database, f"SELECT {_COLUMNS} FROM tasks WHERE id = ?", task_id)  # noqa: S608 - of our own making
    return dict(zip(_COLUMNS.split(", "), found, strict=True))


async def submitted(store: TaskStore, action: str) -> str:
    """The id of a new task that is due at once, by the real clock."""
    now = system_clock()
    payload = TaskRequest(action=action).payload(created_at=now // 1000)
    await store.add(payload, due_at=now)
    return payload.id


async def found(store: TaskStore, task_id: str) -> Task:
    """A task that must be there."""
    task = await store.find(task_id)
    assert task is not None
    return task


async def pending(
    store: TaskStore, task_id: str = "a", due_at: int = START + DISPATCH_LEASE, *, priority: int = NORMAL
) -> TaskPayload:
    """A new task."""
    payload = a_payload(task_id)
    await store.add(payload, due_at, TaskOptions(priority=priority))
    return payload


async def queued(
    store: TaskStore, task_id: str = "a", dispatched_at: int = START, *, priority: int = NORMAL
) -> TaskPayload:
    """A task whose message the broker has confirmed."""
    payload = await pending(store, task_id, priority=priority)
    await store.mark_queued([Dispatched(task_id, 0, dispatched_at)])
    return payload


async def running(store: TaskStore, task_id: str = "a") -> Claimed:
    """A task in its first attempt."""
    claimed = await claim(store, await queued(store, task_id))
    assert isinstance(claimed, Claimed)
    return claimed


async def final(store: TaskStore, status: TaskStatus, task_id: str = "a") -> Settlement:
    """A task that will never change again."""
    claimed = await running(store, task_id)
    settlement = Settlement(task_id, claimed.attempt, status, result='{"output":1}', error="why", now=7000)
    assert await store.settle(settlement)
    return settlement


async def claim(
    store: TaskStore, payload: TaskPayload, attempt: int = 0, worker: str = "worker", *, alone: bool = False
) -> Claimed | NotClaimed:
    """What comes of a message for the attempt that follows `attempt`."""
    message = TaskMessage.of(payload, attempt, 0, alone=alone)
    return await store.claim(message, worker, LEASE, CHALLENGE)
