"""The ended attempts of a task, as they are kept in its row: JSON objects, separated by commas."""

from enum import StrEnum
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import ColumnElement, func

from taskqueue.store.tables import tasks

MAX_ERROR_CHARACTERS: Final = 500
"""A task may have a thousand attempts, and its row is read as a whole."""


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    LOST = "lost"


def entry(  # noqa: PLR0913 - an entry has six members
    attempt: int,
    *,
    started_at: int | None,
    ended_at: int,
    worker: str | None,
    outcome: AttemptOutcome,
    error: str | None,
) -> str:
    """An ended attempt as JSON. Instants in ms."""
    members = {
        "attempt": attempt,
        "started_at": started_at,
        "ended_at": ended_at,
        "worker": worker,
        "outcome": outcome,
        "error": error and error[:MAX_ERROR_CHARACTERS],
    }
    return to_json(members).decode()


def appended(entries: ColumnElement[Any]) -> ColumnElement[Any]:
    """The history with one more entry."""
    return func.coalesce(tasks.c.history.concat(","), "").concat(entries)
