"""The store against a model of it: whatever happens in whatever order, a task's story stays a possible one."""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from taskqueue.errors import QueryFailed
from taskqueue.schema import FINAL, TaskStatus
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.losses import LOSSES_IN_COMPANY
from taskqueue.store.orders import Cancelled, Deleted, Order, Refused
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.store.under_way import Lease
from tests.support.builders import a_payload
from tests.support.database import connect
from tests.support.frozen_clock import FrozenClock
from tests.support.stored import CHALLENGE, DISPATCH_LEASE, LEASE, claim

MAX_ATTEMPTS: Final = 2
RETRY: Final = 1_000
SETTINGS: Final = settings(max_examples=250, stateful_step_count=30)
"""With 50 examples, a settlement that forgets the guard of the attempt is missed every other time."""
SHRINKING_SECONDS: Final = 600
"""A story that breaks the store is made shorter before it is told, which takes minutes; else it is done in seconds."""

IDS = st.sampled_from(["a", "b", "c"])
SOME_IDS = st.lists(IDS, min_size=1, max_size=4)
OFFSETS = st.sampled_from([0, 0, 0, -1, 1])
"""How far a message's attempt is from the right one."""
OUTCOMES = st.sampled_from(["completed", "failed", "cancelled", "retry", "hand back"])
COPIES = st.integers(min_value=1, max_value=3)


@dataclass(frozen=True)
class Known:
    """What the model knows of a task."""

    status: str
    attempt: int = 0
    forgiven: int = 0
    lost: int = 0
    due_at: int | None = None
    queued_at: int | None = None
    result: str | None = None
    ended_at: int | None = None
    called_off: bool = False


class StoreMachine(RuleBasedStateMachine):
    """Drives a real store and the model with the same random story."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.known: dict[str, Known] = {}
        self.settled: dict[str, int] = {}
        self.finals: dict[str, tuple[Any, ...]] = {}
        self.removed = 0
        self._folder = Path(tempfile.mkdtemp(dir=self.template.parent))
        self._file = Path(shutil.copy(self.template, self._folder / "tasks.db"))
        self._runner = asyncio.Runner()
        self._opened = AsyncExitStack()
        self.store: TaskStore = self._run(
            self._opened.enter_async_context(open_store(self._file, self.clock, self.clock.elapsed))
        )
        self._outside = connect(self._file)

    @rule(task_id=IDS, wait=st.sampled_from([0, 8_000]))
    def add(self, task_id: str, wait: int) -> None:
        """A client posts a task; an id is taken once."""
        try:
            self._run(self.store.add(a_payload(task_id), self.clock() + wait))
        except QueryFailed:
            assert task_id in self.known
        else:
            assert task_id not in self.known
            self.known[task_id] = Known("pending", due_at=self.clock() + wait)

    @rule(task_id=IDS, offset=OFFSETS)
    def mark_queued(self, task_id: str, offset: int) -> None:
        """The broker confirms some attempt's message."""
        task = self.known.get(task_id)
        attempt = self._attempt(task_id, offset)
        self._run(self.store.mark_queued([Dispatched(task_id, attempt, self.clock())]))
        if task and task.status == "pending" and task.attempt == attempt:
            self.known[task_id] = replace(task, status="queued", due_at=None, queued_at=self.clock())

    @rule(task_id=IDS, offset=OFFSETS, copies=COPIES)
    def claim(self, task_id: str, offset: int, copies: int) -> None:
        """Some attempt's message arrives, perhaps more than once at the same time."""
        attempt = self._attempt(task_id, offset)
        answers = self._run_all(*(claim(self.store, a_payload(task_id), attempt) for _ in range(copies)))
        for answer in sorted(answers, key=lambda answer: not isinstance(answer, Claimed)):
            assert answer == self._claimed(task_id, attempt)

    @rule(task_id=IDS, offset=OFFSETS, outcome=OUTCOMES, copies=COPIES)
    def settle(self, task_id: str, offset: int, outcome: str, copies: int) -> None:
        """Some worker says what came of some attempt, perhaps more than once at the same time."""
        task = self.known.get(task_id)
        attempt = self._attempt(task_id, offset, running=True)
        became = self._run_all(
            *(self.store.settle(self._settlement(task_id, attempt, outcome, copy)) for copy in range(copies))
        )
        recorded = [status is not None for status in became]
        current = task is not None and task.status == "running" and task.attempt == attempt
        assert recorded.count(True) == current
        if task and current:
            self._note(task_id, task, outcome, result=str(recorded.index(True)))

    @rule(task_id=IDS, outcome=OUTCOMES)
    def perform(self, task_id: str, outcome: str) -> None:
        """A message arrives, and all goes well: by single steps alone, hardly a story would come to an end."""
        self.claim(task_id, 0, 1)
        self.settle(task_id, 0, outcome, 1)

    @rule(task_id=IDS, offset=OFFSETS)
    def renew(self, task_id: str, offset: int) -> None:
        """Some worker shows that it is alive."""
        task = self.known.get(task_id)
        attempt = self._attempt(task_id, offset, running=True)
        held = self._run(self.store.renew(Lease(task_id, attempt, self.clock() + LEASE)))
        assert held == (task is not None and task.status == "running" and task.attempt == attempt)
        if task and held:
            self.known[task_id] = replace(task, due_at=self.clock() + LEASE)

    @rule(limit=st.sampled_from([0, 1, 100]))
    def sweep(self, limit: int) -> None:
        """Some process sweeps."""
        due = {i: task for i, task in self.known.items() if task.due_at is not None and task.due_at <= self.clock()}
        lost = {i: self._after_loss(task) for i, task in due.items() if task.status == "running"}
        spent = {i for i, task in lost.items() if task.status == "failed"}
        over = {i for i, task in lost.items() if task.status in FINAL}
        taken = self._run(self.store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit))
        assert set(taken.failed) == spent
        ready = {ready.payload.id: ready.attempt for ready in taken.ready}
        assert ready.items() <= {i: task.attempt for i, task in due.items() if i not in over}.items()
        assert len(ready) == len(taken.ready) == min(limit, len(due) - len(over))
        self.known |= lost
        for task_id in ready:
            self.known[task_id] = replace(self.known[task_id], due_at=self.clock() + DISPATCH_LEASE)

    @rule(age=st.sampled_from([0, 1, 20_000]))
    def find_lost(self, age: int) -> None:
        """Some process finds that the broker has lost what is older than this."""
        made_before = self.clock() - age
        lost = [i for i, task in self.known.items() if task.queued_at is not None and task.queued_at < made_before]
        assert self._run(self.store.requeue_lost(made_before)) == len(lost)
        for task_id in lost:
            self.known[task_id] = replace(self.known[task_id], status="pending", due_at=self.clock(), queued_at=None)

    @rule(task_ids=SOME_IDS)
    def cancel(self, task_ids: list[str]) -> None:
        """Somebody calls off some tasks, perhaps one of them twice."""
        answers = self._run(self.store.cancel_all([Order(task_id, self.clock()) for task_id in task_ids]))
        before = dict(self.known)
        for task_id, answer in zip(task_ids, answers, strict=True):
            assert answer is self._called_off(task_id, before.get(task_id))

    @rule(task_id=IDS, copies=COPIES, wait=st.sampled_from([0, 8_000]))
    def retry(self, task_id: str, copies: int, wait: int) -> None:
        """Somebody has a task tried again, perhaps more than once at the same time."""
        order = Order(task_id, self.clock(), due_at=self.clock() + wait)
        answers = self._run_all(*(self.store.retry(order) for _ in range(copies)))
        task = self.known.get(task_id)
        possible = task is not None and task.status in ("failed", "cancelled")
        assert [answer for answer in answers if isinstance(answer, Ready)] == [
            Ready(a_payload(task_id), task.attempt, alone=task.lost >= LOSSES_IN_COMPANY)
            for task in (task,)
            if task and possible
        ]
        if task and possible:
            self._leaves_its_end(task_id)
            self.known[task_id] = Known(
                "pending", task.attempt, forgiven=task.attempt, lost=task.lost, due_at=order.due_at
            )

    @rule(task_id=IDS)
    def erase(self, task_id: str) -> None:
        """Somebody deletes a task."""
        task = self.known.get(task_id)
        answer = self._run(self.store.erase(Order(task_id, self.clock())))
        if task is None:
            assert answer is Refused.UNKNOWN
        else:
            assert answer is (Deleted.GONE if task.status in FINAL else Refused.STATUS)
        if answer is Deleted.GONE:
            self._goes(task_id)

    @rule(age=st.sampled_from([0, 1, 20_000]))
    def retain(self, age: int) -> None:
        """Retention deletes what ended before, whatever was found to be old."""
        before = self.clock() - age
        old = [i for i, task in self.known.items() if task.ended_at is not None and task.ended_at < before]
        assert self._run(self.store.remove_old(["a", "b", "c"], before)).rows == len(old)
        for task_id in old:
            self._goes(task_id)

    @rule()
    def resume(self) -> None:
        """The only process starts again."""
        left = [task_id for task_id, task in self.known.items() if task.status in ("queued", "running")]
        assert self._run(self.store.resume()) == len(left)
        for task_id in left:
            task = self.known[task_id]
            status = "pending" if task.status == "queued" else "running"
            self.known[task_id] = replace(task, status=status, due_at=self.clock(), queued_at=None)

    @rule(seconds=st.sampled_from([0.001, 1, 10, 60, LEASE / 1000 - 1]))
    def wait(self, seconds: float) -> None:
        """Time goes on."""
        self.clock.advance(seconds)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        """Row by row; and what is due is exactly what somebody must look at again."""
        rows = self._outside.execute(
            "SELECT id, status, attempt, forgiven, lost, due_at, queued_at, result, ended_at, "
            "cancel_requested_at IS NOT NULL FROM tasks"
        ).fetchall()
        assert {task_id: Known(*columns) for task_id, *columns in rows} == self.known
        for _, status, _, _, _, due_at, queued_at, *_ in rows:
            assert (due_at is None) == (status in ("queued", "completed", "failed", "cancelled"))
            assert (queued_at is not None) == (status == "queued")

    @invariant()
    def the_last_change_tells_where_a_task_stands(self) -> None:
        """But for what the broker holds, which is not told."""
        told = self._outside.execute("SELECT task_id, status, attempt, max(seq) FROM changes GROUP BY 1").fetchall()
        last = {task_id: (status, attempt) for task_id, status, attempt, _ in told if task_id in self.known}
        assert last == {
            task_id: ("pending" if task.status == "queued" else task.status, task.attempt)
            for task_id, task in self.known.items()
        }

    @invariant()
    def all_that_came_and_went_is_counted(self) -> None:
        """Whether it was posted or came as the message of another producer; what was refused is not."""
        tallies = dict(self._outside.execute("SELECT name, tally FROM tallies").fetchall())
        assert tallies == {"accepted": len(self.known) + self.removed, "removed": self.removed}

    @invariant()
    def what_is_final_never_changes(self) -> None:
        """Not in any column, but by hand; and it was settled once at most."""
        rows = self._outside.execute(
            "SELECT * FROM tasks WHERE status IN ('completed', 'failed', 'cancelled')"
        ).fetchall()
        finals = {row[0]: row for row in rows}
        assert self.finals.items() <= finals.items()
        self.finals = finals
        assert all(count == 1 for count in self.settled.values())

    def teardown(self) -> None:
        """Closes what was opened."""
        with closing(self._outside), closing(self._runner):
            self._run(self._opened.aclose())
        shutil.rmtree(self._folder)

    def _goes(self, task_id: str) -> None:
        self._leaves_its_end(task_id)
        del self.known[task_id]
        self.removed += 1

    def _leaves_its_end(self, task_id: str) -> None:
        self.finals.pop(task_id, None)
        self.settled.pop(task_id, None)

    def _called_off(self, task_id: str, task: Known | None) -> Cancelled | Refused:
        """What the model answers to an order to cancel, and does."""
        if task is None:
            return Refused.UNKNOWN
        if task.status in ("pending", "queued"):
            self.known[task_id] = replace(task, status="cancelled", due_at=None, queued_at=None, ended_at=self.clock())
            return Cancelled.AT_ONCE
        if task.status == "running":
            self.known[task_id] = replace(task, called_off=True)
            return Cancelled.REQUESTED
        return Cancelled.BEFORE if task.status == "cancelled" else Refused.STATUS

    def _attempt(self, task_id: str, offset: int, *, running: bool = False) -> int:
        task = self.known.get(task_id, Known("unknown"))
        claims_behind = 1 if task.status == "running" and not running else 0
        return max(0, task.attempt - claims_behind + offset)

    def _claimed(self, task_id: str, attempt: int) -> Claimed | NotClaimed:
        """What the model answers to a message, and does."""
        task = self.known.get(task_id)
        if task is None:
            self.known[task_id] = Known("running", attempt=1, due_at=self.clock() + LEASE)
            return Claimed(a_payload(task_id), 1, forgiven=0)
        if task.status in ("pending", "queued") and task.attempt == attempt:
            self.known[task_id] = replace(
                task, status="running", attempt=attempt + 1, due_at=self.clock() + LEASE, queued_at=None
            )
            return Claimed(a_payload(task_id), attempt + 1, task.forgiven)
        if task.status == "running" and task.attempt == attempt + 1:
            due_at = min(task.due_at or 0, self.clock() + CHALLENGE)
            self.known[task_id] = replace(task, due_at=due_at)
            return NotClaimed.RUNNING
        return NotClaimed.SUPERSEDED

    def _after_loss(self, task: Known) -> Known:
        """A task whose lease ran out: the first losses are forgiven, since a neighbour may have been the cause."""
        forgiven = task.forgiven + (task.lost < LOSSES_IN_COMPANY)
        spent = task.attempt - forgiven >= MAX_ATTEMPTS
        status = "cancelled" if task.called_off else "failed" if spent else "pending"
        due_at, ended_at = (self.clock(), None) if status == "pending" else (None, self.clock())
        task = replace(task, forgiven=forgiven, lost=task.lost + 1, called_off=False)
        return replace(task, status=status, due_at=due_at, ended_at=ended_at)

    def _settlement(self, task_id: str, attempt: int, outcome: str, copy: int) -> Settlement:
        goes_back = outcome in ("retry", "hand back")
        return Settlement(
            task_id,
            attempt,
            TaskStatus.PENDING if goes_back else TaskStatus(outcome),
            str(copy),
            due_at=self.clock() + RETRY if goes_back else None,
            now=self.clock(),
            handed_back=outcome == "hand back",
        )

    def _note(self, task_id: str, task: Known, outcome: str, result: str) -> None:
        forgiven = task.forgiven + (outcome == "hand back")
        called_off, task = task.called_off, replace(task, result=result, forgiven=forgiven, called_off=False)
        if outcome in ("retry", "hand back") and not called_off:
            self.known[task_id] = replace(task, status="pending", due_at=self.clock() + RETRY)
        else:
            status = outcome if outcome in FINAL else "cancelled"
            self.known[task_id] = replace(task, status=status, due_at=None, ended_at=self.clock())
            self.settled[task_id] = self.settled.get(task_id, 0) + 1

    def _run(self, operation: Any) -> Any:
        return self._runner.run(operation)

    def _run_all(self, *operations: Any) -> list[Any]:
        async def together() -> list[Any]:
            return await asyncio.gather(*operations)

        answers: list[Any] = self._run(together())
        return answers


@pytest.mark.timeout(SHRINKING_SECONDS)
def test_no_story_of_random_events_breaks_the_store(database: Path) -> None:
    """Messages that come twice or late, workers that fall silent, sweeps, orders, restarts in between: all of it goes.

    Final rows never change, a task is settled once at most, attempts only grow, and `due_at` is empty exactly where
    nobody has to look again.
    """
    StoreMachine.template = database
    run_state_machine_as_test(StoreMachine, settings=SETTINGS)
