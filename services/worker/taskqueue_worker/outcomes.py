"""What can come of an attempt, and what of it is recorded: pure functions."""

from dataclasses import dataclass
from typing import Any, Final

from taskqueue.actions import Fail, RetryAfter
from taskqueue.actions.results import encoded
from taskqueue.clock import milliseconds
from taskqueue.retry import Backoff, next_due
from taskqueue.schema import TaskStatus
from taskqueue.store.claims import Claimed
from taskqueue.store.history import AttemptOutcome, entry
from taskqueue.store.settling import Settlement

MAX_ERROR_CHARACTERS: Final = 2_000
BACKOFF: Final = Backoff()
CANCELLED: Final = "cancelled while it was running"


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
class TimedOut:
    """The handler did not end within so many seconds."""

    seconds: float


@dataclass(frozen=True)
class RetryAt:
    """The handler asked for another attempt at `due_at` (ms)."""

    error: str
    due_at: int


@dataclass(frozen=True)
class Cancelled:
    """Somebody called the task off while its handler was at work."""


@dataclass(frozen=True)
class HandedBack:
    """The worker stops before the handler has finished: not the task's fault."""


@dataclass(frozen=True)
class Superseded:
    """Another attempt has taken the task: nothing is to be recorded."""


Returned = Completed | Failed | RetryAt
"""What a handler can bring about by itself."""

Interruption = Cancelled | HandedBack | Superseded
"""Why a handler must not go on."""

Recorded = Returned | TimedOut | Cancelled | HandedBack
Outcome = Recorded | Superseded


def returned(result: Any) -> Completed | Failed:
    """What comes of it that the handler returned `result`."""
    try:
        return Completed(encoded(result))
    except Fail as error:
        return Failed(str(error), final=True)


def raised(error: BaseException, now: int) -> Failed | RetryAt:
    """What comes of it that the handler raised `error` at `now` (ms)."""
    match error:
        case Fail():
            return Failed(_told(error), final=True)
        case RetryAfter():
            return _wished(error, now)
        case SystemExit() | KeyboardInterrupt():
            return Failed(f"RuntimeError: the handler raised {error!r}")
        case _:
            return Failed(_told(error, named=True))


def _wished(error: RetryAfter, now: int) -> Failed | RetryAt:
    """A user's own kind of RetryAfter may fail to say when: then it is an exception like any other."""
    try:
        return RetryAt(_told(error), milliseconds(error.due(now / 1000)))
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        return Failed(_told(error, named=True))


def settlement(
    claimed: Claimed, outcome: Recorded, now: int, max_attempts: int, backoff: Backoff | None = None
) -> Settlement:
    """What to record of `outcome` at `now` (ms). `max_attempts` and `backoff` are for a task that has none itself."""
    match outcome:
        case Completed(result):
            return _settlement(claimed, TaskStatus.COMPLETED, AttemptOutcome.COMPLETED, now, result=result)
        case HandedBack():
            return _settlement(
                claimed, TaskStatus.PENDING, AttemptOutcome.HANDED_BACK, now, due_at=now, handed_back=True
            )
        case Cancelled():
            return _settlement(claimed, TaskStatus.CANCELLED, AttemptOutcome.CANCELLED, now, error=CANCELLED)
    ended = AttemptOutcome.TIMED_OUT if isinstance(outcome, TimedOut) else AttemptOutcome.FAILED
    error = _storable(f"timed out after {outcome.seconds:g} s" if isinstance(outcome, TimedOut) else outcome.error)
    counted = claimed.attempt - claimed.forgiven
    final = isinstance(outcome, Failed) and outcome.final
    if final or counted >= (claimed.max_attempts or max_attempts):
        return _settlement(claimed, TaskStatus.FAILED, ended, now, error=error)
    due_at = outcome.due_at if isinstance(outcome, RetryAt) else next_due(now, counted, backoff or BACKOFF)
    return _settlement(claimed, TaskStatus.PENDING, ended, now, error=error, due_at=due_at)


def _settlement(
    claimed: Claimed, status: TaskStatus, ended: AttemptOutcome, now: int, *, error: str | None = None, **rest: Any
) -> Settlement:
    record = _record(claimed, ended, now, error)
    return Settlement(claimed.payload.id, claimed.attempt, status, error=error, now=now, entry=record, **rest)


def _record(claimed: Claimed, outcome: AttemptOutcome, now: int, error: str | None = None) -> str:
    return entry(
        claimed.attempt,
        started_at=claimed.started_at,
        ended_at=now,
        worker=claimed.worker,
        outcome=outcome,
        error=error,
    )


def _told(error: BaseException, *, named: bool = False) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}" if named else str(error) or name
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way, even at telling what it is
        return f"{name}, which cannot be told as text"


def _storable(error: str) -> str:
    """The text within bounds, and without the lone surrogates that no database takes."""
    return error[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
