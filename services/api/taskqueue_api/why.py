"""Why a task is where it is: a code for machines and a sentence for people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from taskqueue.schema import TaskStatus
from taskqueue.store.expiring import EXPIRED
from taskqueue.store.standing import COUNTED, Neighbours, Standing


@dataclass(frozen=True)
class Reason:
    """`code` stays the same over versions; `sentence` may be worded better one day."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Surroundings:
    """What else decides: the instant (ms), since when the broker is away, and how often a task is tried."""

    now: int
    broker_away_since: int | None
    max_attempts: int


def reason(standing: Standing, around: Surroundings) -> Reason:
    """Why the task is where it is."""
    return _BY_STATUS[standing.status](standing, around)


def _waiting(standing: Standing, around: Surroundings) -> Reason:
    """The first of what keeps it: its time, a pause after a failure, the broker, the workers, those before it."""
    if standing.run_at is not None and standing.run_at > around.now:
        return Reason("waiting_for_time", f"it is not to start before {_told(standing.run_at)}")
    if standing.attempts and standing.error is not None and (standing.due_at or 0) > around.now:
        failed = f"attempt {_attempt(standing, around)} failed: {standing.error}"
        return Reason("waiting_to_retry", f"{failed}; next at {_told(standing.due_at)}")
    if around.broker_away_since is not None:
        away = f"RabbitMQ is unreachable since {_told(around.broker_away_since)}"
        return Reason("broker_away", f"{away}; the task is kept on disk")
    return _waiting_for_worker(standing, standing.neighbours)


def _waiting_for_worker(standing: Standing, neighbours: Neighbours) -> Reason:
    if not neighbours.workers:
        return Reason("no_worker", "no worker is alive")
    if not neighbours.able:
        otherwise = "another one takes it, and answers as for an unknown action"
        return Reason("no_action", f"no live worker has action {standing.action}; {otherwise}")
    if standing.status is TaskStatus.PENDING:
        return Reason("dispatching", "it is about to be handed to the queue")
    ahead, at_work = _counted(neighbours.ahead), _counted(neighbours.at_work)
    return Reason("queued", f"{ahead} ahead of it, {at_work} being worked on")


def _running(standing: Standing, around: Surroundings) -> Reason:
    if standing.cancel_requested_at is not None:
        asked = f"{standing.worker} has been asked to stop it at {_told(standing.cancel_requested_at)}"
        return Reason("being_cancelled", asked)
    since = f"since {_told(standing.started_at)}" if standing.started_at else "now"
    return Reason("running", f"{standing.worker} is at it {since}, attempt {_attempt(standing, around)}")


def _completed(standing: Standing, _: Surroundings) -> Reason:
    return Reason("completed", f"it was completed at {_told(standing.ended_at)}")


def _failed(standing: Standing, around: Surroundings) -> Reason:
    tried = f"it failed at {_told(standing.ended_at)} in attempt {_attempt(standing, around)}"
    return Reason("failed", f"{tried}: {standing.error}")


def _cancelled(standing: Standing, _: Surroundings) -> Reason:
    why = f": {EXPIRED}" if standing.error == EXPIRED else ""
    return Reason("cancelled", f"it was cancelled at {_told(standing.ended_at)}{why}")


_BY_STATUS: Final[Mapping[TaskStatus, Callable[[Standing, Surroundings], Reason]]] = {
    TaskStatus.PENDING: _waiting,
    TaskStatus.QUEUED: _waiting,
    TaskStatus.RUNNING: _running,
    TaskStatus.COMPLETED: _completed,
    TaskStatus.FAILED: _failed,
    TaskStatus.CANCELLED: _cancelled,
}


def _attempt(standing: Standing, around: Surroundings) -> str:
    return f"{standing.attempts} of {standing.max_attempts or around.max_attempts}"


def _counted(number: int) -> str:
    return f"more than {COUNTED:,}" if number > COUNTED else f"{number:,}"


def _told(instant: int | None) -> str:
    """An instant (ms) as RFC 3339, to the second."""
    if instant is None:
        return "an unknown time"
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
