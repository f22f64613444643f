"""What can be wrong with one row of `tasks`: conditions that hold for no row of a healthy store, at no instant.

They are of one row, since that is read at one instant; what is said of many rows is in `audit`. Each belongs to one of
the invariants I1 to I7, which `taskqueue.audit` tells.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Integer, and_, bindparam, case, func, literal, not_, or_, select

from taskqueue.schema import FINAL, TaskStatus
from taskqueue.store.history import AttemptOutcome
from taskqueue.store.tables import tasks

NOW: Final = bindparam("now", type_=BigInteger)
"""The instant (ms) of the audit."""

OVERDUE_SINCE: Final = bindparam("overdue_since", type_=BigInteger)
"""What was due before this instant (ms) should have been taken by a sweep."""

LEASE_MS: Final = bindparam("longest_lease", type_=BigInteger)
MAX_ATTEMPTS: Final = bindparam("max_attempts", type_=Integer)
MAX_ATTEMPTS_SINCE: Final = bindparam("max_attempts_since", type_=BigInteger)
"""For tasks accepted since then (µs) `max_attempts` is known to hold, where they have no limit of their own."""


@dataclass(frozen=True)
class Flaw:
    """A condition that no healthy row meets, which invariant it breaks, and what is then wrong with those rows."""

    name: str
    invariant: str
    finding: str
    condition: ColumnElement[bool]


def _is(*statuses: TaskStatus) -> ColumnElement[bool]:
    return tasks.c.status.in_([status.value for status in statuses])


_FINAL: Final = _is(*sorted(FINAL))
_RUNNING: Final = _is(TaskStatus.RUNNING)
_COMPLETED: Final = _is(TaskStatus.COMPLETED)


def _valid(text: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(text.is_(None), func.json_valid(text) == 1)


def _member(text: ColumnElement[Any], path: str) -> ColumnElement[Any]:
    """A member of JSON text; NULL where it is none."""
    return case((func.json_valid(text) == 1, func.json_extract(text, path)), else_=None)


# The history as a JSON array; an unreadable one is a flaw of its own, and empty to the others.
_TEXT: Final = literal("[").concat(func.coalesce(tasks.c.history, "")).concat("]")
_ENTRIES: Final = case((func.json_valid(_TEXT) == 1, _TEXT), else_=literal("[]"))
_HAS_HISTORY: Final = and_(tasks.c.history.is_not(None), func.json_valid(_TEXT) == 1)


def _last(member: str) -> ColumnElement[Any]:
    return func.json_extract(_ENTRIES, f"$[#-1].{member}")


def _out_of_order() -> ColumnElement[bool]:
    one, next_one = (func.json_each(_ENTRIES).table_valued("key", "value", name=name) for name in ("one", "next_one"))
    attempts = [func.json_extract(entry.c.value, "$.attempt") for entry in (one, next_one)]
    pairs = select(literal(1)).where(next_one.c.key == one.c.key + 1, attempts[1] <= attempts[0])
    return and_(tasks.c.history.is_not(None), pairs.correlate(tasks).exists())


def _ended_before() -> ColumnElement[bool]:
    """An entry that ends a task for good has another after it, and no retry by hand forgave it."""
    entry = func.json_each(_ENTRIES).table_valued("key", "value", name="entry")
    outcome, attempt = (func.json_extract(entry.c.value, f"$.{member}") for member in ("outcome", "attempt"))
    ends = or_(
        outcome == AttemptOutcome.COMPLETED.value,
        and_(outcome == AttemptOutcome.CANCELLED.value, attempt > tasks.c.forgiven),
    )
    early = select(literal(1)).where(ends, entry.c.key < func.json_array_length(_ENTRIES) - 1)
    return and_(tasks.c.history.is_not(None), early.correlate(tasks).exists())


_FAILURES: Final = [each.value for each in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.LOST)]
_OUTCOME_IS_ANOTHER: Final = and_(
    _HAS_HISTORY,
    or_(
        and_(_COMPLETED, _last("outcome").is_distinct_from(AttemptOutcome.COMPLETED.value)),
        and_(not_(_COMPLETED), _last("outcome").is_not_distinct_from(AttemptOutcome.COMPLETED.value)),
        and_(_is(TaskStatus.FAILED), _last("outcome").not_in(_FAILURES)),
    ),
)
_COUNTED: Final = tasks.c.attempt - tasks.c.forgiven
_LIMIT_NOW: Final = case((tasks.c.accepted_at >= MAX_ATTEMPTS_SINCE, MAX_ATTEMPTS), else_=None)

FLAWS: Final = (
    Flaw("unknown_status", "I1", "has a status that does not exist", not_(_is(*TaskStatus))),
    Flaw(
        "pending_without_due_at",
        "I1",
        "waits, and no sweep will ever find it",
        and_(_is(TaskStatus.PENDING), tasks.c.due_at.is_(None)),
    ),
    Flaw(
        "queued_unfindable",
        "I1",
        "is queued, and is due or lacks the instant of its message: it cannot be found when that is lost",
        and_(_is(TaskStatus.QUEUED), or_(tasks.c.due_at.is_not(None), tasks.c.queued_at.is_(None))),
    ),
    Flaw(
        "running_without_lease",
        "I1",
        "runs without a lease, a worker or an attempt",
        and_(_RUNNING, or_(tasks.c.due_at.is_(None), tasks.c.worker.is_(None), tasks.c.attempt < 1)),
    ),
    Flaw(
        "lease_out_of_reach",
        "I1",
        "runs under a lease longer than any setting allows: the loss of its worker would not be noticed",
        and_(_RUNNING, tasks.c.due_at > NOW + LEASE_MS),
    ),
    Flaw(
        "overdue_waiting",
        "I1",
        "has been due for longer than a sweep needs to hand it out",
        and_(_is(TaskStatus.PENDING), tasks.c.due_at < OVERDUE_SINCE),
    ),
    Flaw(
        "overdue_running",
        "I1",
        "is held under a lease that ended long ago, and no sweep has taken it",
        and_(_RUNNING, tasks.c.due_at < OVERDUE_SINCE),
    ),
    Flaw(
        "final_without_end",
        "I1",
        "is final, and does not say since when",
        and_(_FINAL, or_(tasks.c.ended_at.is_(None), tasks.c.processed_at.is_(None))),
    ),
    Flaw(
        "final_but_due",
        "I2",
        "is final, and yet due or queued: it would be handed out again",
        and_(_FINAL, or_(tasks.c.due_at.is_not(None), tasks.c.queued_at.is_not(None))),
    ),
    Flaw(
        "ended_but_not_final",
        "I2",
        "has ended, and yet is not final",
        and_(not_(_FINAL), or_(tasks.c.ended_at.is_not(None), tasks.c.processed_at.is_not(None))),
    ),
    Flaw(
        "attempt_after_the_end",
        "I2",
        "was attempted again after it had completed or been called off",
        _ended_before(),
    ),
    Flaw(
        "completed_without_result",
        "I3",
        "is completed and has no result, or has one without being completed",
        or_(and_(_COMPLETED, tasks.c.result.is_(None)), and_(not_(_COMPLETED), tasks.c.result.is_not(None))),
    ),
    Flaw("outcome_of_another", "I3", "has not the status that its last attempt ended with", _OUTCOME_IS_ANOTHER),
    Flaw(
        "attempts_out_of_order",
        "I3",
        "has attempts in its history that are there twice, or not in order",
        _out_of_order(),
    ),
    Flaw(
        "attempt_missing",
        "I3",
        "has a history that does not end with its last attempt",
        and_(_HAS_HISTORY, tasks.c.attempt - case((_RUNNING, 1), else_=0) != _last("attempt")),
    ),
    Flaw(
        "too_many_attempts",
        "I6",
        "was attempted more often than it may be, or forgiven more often than attempted",
        or_(func.coalesce(tasks.c.max_attempts, _LIMIT_NOW) < _COUNTED, _COUNTED < 0),
    ),
    Flaw(
        "unreadable",
        "I7",
        "holds what is no JSON, or the payload of another task",
        or_(
            *(not_(_valid(text)) for text in (tasks.c.payload, tasks.c.result, tasks.c.tags, tasks.c.progress)),
            and_(tasks.c.history.is_not(None), func.json_valid(_TEXT) == 0),
            func.coalesce(_member(tasks.c.payload, "$.id"), "") != tasks.c.id,
        ),
    ),
)
"""Every one of them."""
