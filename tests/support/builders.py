"""Values with defaults, so that a test names only what it is about."""

from typing import Any
from uuid import uuid4

from taskqueue.schema import TaskMessage, TaskPayload


def a_payload(task_id: str | None = None, *, action: str = "resize", data: dict[str, Any] | None = None) -> TaskPayload:
    """What some task is asked to do."""
    return TaskPayload(id=task_id or str(uuid4()), action=action, data=data or {}, created_at=1_700_000_000)


def a_message(task_id: str = "a", *, attempt: int = 0, dispatched_at: int = 0) -> TaskMessage:
    """A message for some task."""
    return TaskMessage.of(a_payload(task_id), attempt, dispatched_at)
