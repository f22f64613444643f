"""What can come of an attempt, and what of it is recorded: pure functions."""

from dataclasses import dataclass
from typing import Final

from taskqueue.retry import Backoff, next_due
from taskqueue.schema import TaskStatus
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
            return Settlement(task_id, attempt, TaskStatus.COMPLETED, result=result, processed_at=now // 1000)
        case HandedBack():
            return Settlement(task_id, attempt, TaskStatus.PENDING, due_at=now, handed_back=True)
        case Failed(error, final):
            error = _storable(error)
            counted = attempt - claimed.handed_back
            if final or counted >= max_attempts:
                return Settlement(task_id, attempt, TaskStatus.FAILED, error=error, processed_at=now // 1000)
            due_at = next_due(now, counted, BACKOFF)
            return Settlement(task_id, attempt, TaskStatus.PENDING, error=error, due_at=due_at)


def _storable(error: str) -> str:
    """The text within bounds, and without the lone surrogates that no database takes."""
    return error[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
