"""Looks at every task after every commit, and knows what must never be seen.

Each rule is named in `Broken`; the first one that is broken ends the history.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from taskqueue.clock import Clock
from taskqueue.schema import FINAL, LEGAL_TRANSITIONS, TaskStatus
from taskqueue.store.sweeps import Due, Taken
from tests.simulation.loop import LANE, Lane
from tests.simulation.trace import Trace


class Broken(Exception):
    """A promise is broken."""

    def __init__(self, promise: str, task_id: str | None = None) -> None:
        super().__init__(f"{promise}: task {task_id}" if task_id else promise)
        self.task_id = task_id


class Row(NamedTuple):
    """What is looked at of a task. Instants in ms."""

    status: str
    attempt: int
    forgiven: int
    lost: int
    due_at: int | None
    max_attempts: int | None
    result: str | None
    error: str | None
    ended_at: int | None
    cancel_requested_at: int | None


_LOOK: Final = f"SELECT id, {', '.join(Row._fields)} FROM tasks"  # noqa: S608 - names of our own
_TRIED_AGAIN: Final = (TaskStatus.FAILED, TaskStatus.CANCELLED)
_ONCE_AGAIN: Final = (TaskStatus.PENDING, TaskStatus.QUEUED, TaskStatus.RUNNING)
"""The commit that tries a task again may note or claim an older message of its attempt; `verdict` reads each step."""
_ATTEMPTS_AT_MOST: Final = "no task has more attempts than it may"


@dataclass(frozen=True)
class _Take:
    since: int
    until: int


class Observer:
    """The rules that hold at each commit. `look` answers the rows of a query, `confirmed` what the broker has taken."""

    def __init__(
        self, look: Callable[[str], Sequence[Sequence[Any]]], clock: Clock, trace: Trace, max_attempts: int
    ) -> None:
        self.rows: dict[str, Row] = {}
        self.confirmed: set[tuple[str, int]] = set()
        self.begun: set[tuple[str, int]] = set()
        self.retry_ordered: set[str] = set()
        self.deletion_ordered: set[str] = set()
        self.deleted: set[str] = set()
        self.broken: Broken | None = None
        self._look = look
        self._clock = clock
        self._trace = trace
        self._max_attempts = max_attempts
        self._claimants: dict[tuple[str, int], Lane] = {}
        self._taken: dict[str, _Take] = {}
        self._taking: list[tuple[Due, Taken]] = []

    def breaks(self, promise: str, task_id: str | None = None) -> None:
        """A promise is broken; the first one is what is reported."""
        self._trace.note("BROKEN:", promise, task_id or "")
        self.broken = self.broken or Broken(promise, task_id)

    def taking(self, due: Due, taken: Taken) -> None:
        """A sweep takes these tasks, in the transaction that is under way."""
        self._taking.append((due, taken))

    def handler_begins(self, task_id: str, attempt: int) -> None:
        """The handler of an attempt is called."""
        self._trace.note("handler begins", task_id, attempt)
        if (task_id, attempt) in self.begun:
            self.breaks("no attempt runs twice", task_id)
        self.begun.add((task_id, attempt))

    def is_running(self, task_id: str, attempt: int) -> bool:
        """Whether this attempt has neither been settled nor superseded."""
        row = self.rows.get(task_id)
        return row is not None and row.status == TaskStatus.RUNNING and row.attempt == attempt

    def rolled_back(self) -> None:
        """A transaction has come to nothing."""
        self._taking.clear()

    def committed(self) -> None:
        """A transaction has been committed."""
        seen = {task_id: Row(*rest) for task_id, *rest in self._look(_LOOK)}
        for task_id in sorted(self.rows.keys() - seen.keys()):
            self._vanished(task_id)
        for task_id, row in seen.items():
            before = self.rows.get(task_id)
            if before != row:
                self._changed(task_id, before, row)
        self.rows = seen
        self._check_taken()

    def _vanished(self, task_id: str) -> None:
        self._trace.note("commit", task_id, "is gone")
        # By its last change, and not as it was seen last: one commit may have ended and deleted it.
        told = self._look(f"SELECT status FROM changes WHERE task_id = '{task_id}' ORDER BY seq DESC LIMIT 1")  # noqa: S608
        if task_id not in self.deletion_ordered or not told or told[0][0] not in FINAL:
            self.breaks("no task vanishes, unless it has ended and is to be deleted", task_id)
        self.deleted.add(task_id)

    def _changed(self, task_id: str, before: Row | None, row: Row) -> None:
        if before is None or before.status != row.status or before.attempt != row.attempt:
            self._trace.note("commit", task_id, row.status, row.attempt)
        if before is None:
            if task_id in self.deleted:
                self.breaks("what was deleted does not come again", task_id)
            # What has expired meanwhile may be called off in the same commit.
            if row.attempt or row.status not in (TaskStatus.PENDING, TaskStatus.CANCELLED):
                self.breaks("a new task is pending", task_id)
            return
        self._check_transition(task_id, before, row)
        self._check_attempt(task_id, before, row)
        if row.status == TaskStatus.QUEUED and (task_id, row.attempt) not in self.confirmed:
            self.breaks("what is queued has been confirmed by the broker", task_id)
        if before.status != TaskStatus.PENDING and row.status == TaskStatus.PENDING:
            self._taken.pop(task_id, None)

    def _check_transition(self, task_id: str, before: Row, row: Row) -> None:
        again = row.status in _ONCE_AGAIN and before.status in _TRIED_AGAIN and task_id in self.retry_ordered
        if before.status in FINAL and not again:
            self.breaks("a final task never changes, unless it is to be tried again", task_id)
        elif (
            not again and before.status != row.status and row.status not in LEGAL_TRANSITIONS[TaskStatus(before.status)]
        ):
            self.breaks(f"no task goes from {before.status} to {row.status}", task_id)
        if before.status == TaskStatus.RUNNING and row.status != TaskStatus.RUNNING:
            self._check_end(task_id, before, row)

    def _check_attempt(self, task_id: str, before: Row, row: Row) -> None:
        begins = row.status == TaskStatus.RUNNING and before.status != TaskStatus.RUNNING
        if row.attempt != before.attempt + begins:
            self.breaks("attempts are counted one by one, as they begin", task_id)
        if begins:
            self._claimants[task_id, row.attempt] = LANE.get()
        if row.attempt - row.forgiven > (row.max_attempts or self._max_attempts):
            self.breaks(_ATTEMPTS_AT_MOST, task_id)

    def _check_end(self, task_id: str, before: Row, row: Row) -> None:
        if row.lost > before.lost:
            if before.due_at is None or before.due_at > self._clock():
                self.breaks("no attempt is taken from a worker that holds its lease", task_id)
        elif self._claimants.get((task_id, before.attempt)) is not LANE.get():
            self.breaks("an outcome is recorded by none but the worker of the attempt", task_id)
        if row.result is not None and from_json(row.result).get("attempt") != row.attempt:
            self.breaks("a result is that of the attempt that recorded it", task_id)

    def _check_taken(self) -> None:
        for due, taken in self._taking:
            for ready in taken.ready:
                task_id = ready.payload.id
                last = self._taken.get(task_id)
                if last is not None and due.now < last.until:
                    self.breaks("no two sweeps take the same task", task_id)
                self._taken[task_id] = _Take(due.now, due.lease_until)
        self._taking.clear()
