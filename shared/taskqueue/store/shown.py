"""From a row to the task that a client reads."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import select

from taskqueue.schema import Attempt, Task, TaskStatus, Timings
from taskqueue.store.faults import reading
from taskqueue.store.tables import tasks

SHOWN: Final = select(
    tasks.c.id,
    tasks.c.payload,
    tasks.c.status,
    tasks.c.result,
    tasks.c.created_at,
    tasks.c.processed_at,
    tasks.c.attempt,
    tasks.c.forgiven,
    tasks.c.error,
    tasks.c.action,
    tasks.c.priority,
    tasks.c.tags,
    tasks.c.run_at,
    tasks.c.expires_at,
    tasks.c.timeout,
    tasks.c.max_attempts,
    tasks.c.progress,
    tasks.c.schedule_id,
    tasks.c.history,
    tasks.c.accepted_at,
    tasks.c.started_at,
    tasks.c.worker,
)
"""Rows of which `task` makes tasks."""

_ATTEMPTS: Final = TypeAdapter(list[Attempt])


def task(row: Mapping[str, Any]) -> Task:
    """The task that the row holds. Raises RowDamaged."""
    with reading(f"task {row['id']}"):
        return _task(row)


def _task(row: Mapping[str, Any]) -> Task:
    members: dict[str, Any] = dict(row)
    members["attempts"] = row["attempt"] - row["forgiven"]
    members["tags"] = row["tags"] or "[]"
    members["run_at"] = _seconds(row["run_at"])
    members["expires_at"] = _seconds(row["expires_at"])
    members["timeout"] = row["timeout"] and row["timeout"] / 1000
    history = _history(row)
    return Task.model_validate(members | {"history": history, "timings": _timings(row, history)})


def characters(row: Mapping[str, Any]) -> int:
    """About how large the task is as JSON."""
    return len(row["payload"]) + len(row["result"] or "") + len(row["history"] or "")


def _seconds(instant: int | None) -> int | None:
    return None if instant is None else instant // 1000


def _history(row: Mapping[str, Any]) -> list[Attempt]:
    """The ended attempts, and the one that runs."""
    ended = _ATTEMPTS.validate_json(f"[{row['history'] or ''}]")
    if row["status"] != TaskStatus.RUNNING:
        return ended
    return [*ended, Attempt(attempt=row["attempt"], started_at=row["started_at"], worker=row["worker"])]


def _timings(row: Mapping[str, Any], history: list[Attempt]) -> Timings:
    """None of them depends on the time of reading: a task that has not changed reads the same."""
    runs = [
        attempt.ended_at - attempt.started_at
        for attempt in history
        if attempt.started_at is not None and attempt.ended_at is not None
    ]
    return Timings(waited=_waited(row, history), ran=sum(runs) if runs else None)


def _waited(row: Mapping[str, Any], history: list[Attempt]) -> int | None:
    """From when it could have begun to when it did."""
    first = history[0] if history else None
    if first is None or first.attempt != 1 or first.started_at is None:
        return None
    could_begin = max(int(row["accepted_at"]) // 1000, int(row["run_at"] or 0))
    return max(0, first.started_at - could_begin)
