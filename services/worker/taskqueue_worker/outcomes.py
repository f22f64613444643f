"""What can come of an attempt, and what of it is recorded: pure functions."""

from dataclasses import dataclass
from typing import Final

from taskqueue.retry import Backoff, next_due
from taskqueue.schema import TaskStatus
from taskqueue.store.history import AttemptOutcome, entry
from taskqueue.store.writes import Claimed, Settlement

MAX_ERROR_CHARACTERS: Final = 2_000
BACKOFF: Final = Backoff()


@dataclass(frozen=True)
class Completed:
    """The handler returned; `result` is JSON text."""

    result: str


@dataclass(frozen=True)
class Failed:
    """The handler failed; `final` where another attempt cannot do better."""

    error: str
    final: bool = False


@dataclass(frozen=True)
class HandedBack:
    """The worker stops before the handler has finished: not the task's fault."""


@dataclass(frozen=True)
class Superseded:
    """Another attempt has taken the task: nothing is to be recorded."""


Outcome = Completed | Failed | HandedBack | Superseded


def settlement(claimed: Claimed, outcome: Completed | Failed | HandedBack, now: int, max_attempts: int) -> Settlement:
    """What to record of `outcome` at `now` (ms)."""
    task_id, attempt = claimed.payload.id, claimed.attempt
    match outcome:
        case Completed(result):
            record = _record(claimed, AttemptOutcome.COMPLETED, now)
            return Settlement(task_id, attempt, TaskStatus.COMPLETED, result=result, now=now, entry=record)
        case HandedBack():
            record = _record(claimed, AttemptOutcome.HANDED_BACK, now)
            return Settlement(task_id, attempt, TaskStatus.PENDING, due_at=now, now=now, handed_back=True, entry=record)
        case Failed(error, final):
            error = _storable(error)
            record = _record(claimed, AttemptOutcome.FAILED, now, error)
            counted = attempt - claimed.forgiven
            if final or counted >= (claimed.max_attempts or max_attempts):
                return Settlement(task_id, attempt, TaskStatus.FAILED, error=error, now=now, entry=record)
            due_at = next_due(now, counted, BACKOFF)
            return Settlement(task_id, attempt, TaskStatus.PENDING, error=error, due_at=due_at, now=now, entry=record)


def _record(claimed: Claimed, outcome: AttemptOutcome, now: int, error: str | None = None) -> str:
    return entry(
        claimed.attempt,
        started_at=claimed.started_at,
        ended_at=now,
        worker=claimed.worker,
        outcome=outcome,
        error=error,
    )


def _storable(error: str) -> str:
    """The text within bounds, and without the lone surrogates that no database takes."""
    return error[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
