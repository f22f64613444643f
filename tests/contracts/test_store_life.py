"""What clients may ask of a task beyond running it, as the store keeps it: limits, expiry, keys, tags, calling off."""

import json
from pathlib import Path
from typing import Any

from taskqueue.schema import TaskMessage, TaskOptions, TaskStatus
from taskqueue.store.adding import Known
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.doors.working import Limits
from taskqueue.store.expiring import EXPIRED
from taskqueue.store.history import AttemptOutcome, entry
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from taskqueue.store.under_way import Progress
from tests.support.builders import a_payload
from tests.support.database import change, rows
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import CHALLENGE, DISPATCH_LEASE, LEASE, claim, final, queued, row, running

CALL_OFF = "UPDATE tasks SET cancel_requested_at = 1 WHERE id = 'a'"


async def test_a_task_s_own_limits_go_before_those_of_its_action(store: TaskStore) -> None:
    """What neither says is left to the settings."""
    await store.add(a_payload("a"), START, TaskOptions(timeout=7))

    claimed = await _claim(store, Limits(timeout=1_000, max_attempts=9))

    assert isinstance(claimed, Claimed)
    assert (claimed.timeout, claimed.max_attempts) == (7, 9)


async def test_an_expired_task_is_not_begun(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """It is cancelled by its message, at its instant and not before."""
    for task_id in ("a", "b"):
        await store.add(a_payload(task_id), START, TaskOptions(expires_at=START + 1_000))
    clock.advance(0.999)
    assert isinstance(await claim(store, a_payload("b")), Claimed)
    clock.advance(0.001)

    assert await claim(store, a_payload("a")) is NotClaimed.EXPIRED

    stored = row(database, "a")
    assert (stored["status"], stored["error"], stored["due_at"]) == ("cancelled", EXPIRED, None)
    assert (stored["attempt"], stored["ended_at"], stored["processed_at"]) == (0, clock(), clock() // 1000)


async def test_a_sweep_does_not_hand_out_what_has_expired(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """It is final, and its neighbours are handed out."""
    await store.add(a_payload("late"), START, TaskOptions(expires_at=START + 1_000))
    await store.add(a_payload("a"), START)
    clock.advance(1)

    taken = await store.take_due(DISPATCH_LEASE, 5, limit=10)

    assert [ready.payload.id for ready in taken.ready] == ["a"]
    assert row(database, "late")["status"] == "cancelled"


async def test_an_attempt_that_was_called_off_is_not_tried_again(store: TaskStore, database: Path) -> None:
    """Whether it failed or was handed back: it would have to wait for the next attempt, and nobody wants that."""
    claimed = await running(store)
    change(database, CALL_OFF)
    assert await store.called_off("worker") == [("a", claimed.attempt)]
    assert await store.called_off("another") == []

    assert await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="why", due_at=START, now=5_000))

    stored = row(database, "a")
    assert (stored["status"], stored["due_at"], stored["processed_at"]) == ("cancelled", None, 5)
    assert (stored["ended_at"], stored["cancel_requested_at"]) == (5_000, None)
    assert await store.called_off("worker") == []


async def test_a_result_that_comes_in_spite_of_being_called_off_counts(store: TaskStore, database: Path) -> None:
    """The work is done, and its result is the truth."""
    await running(store)
    change(database, CALL_OFF)

    assert await store.settle(Settlement("a", 1, TaskStatus.COMPLETED, result="1", now=5_000))

    assert (row(database, "a")["status"], row(database, "a")["result"]) == ("completed", "1")


async def test_a_task_that_was_called_off_and_lost_its_worker_is_cancelled(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """Nobody else takes it up."""
    await running(store)
    change(database, CALL_OFF)
    clock.advance(LEASE / 1000)

    taken = await store.take_due(DISPATCH_LEASE, 5, limit=10)

    assert (list(taken.ready), list(taken.failed)) == ([], [])
    assert row(database, "a")["status"] == "cancelled"


async def test_a_message_of_a_deleted_task_starts_nothing(store: TaskStore, database: Path) -> None:
    """A dispatcher's message was made from a row; one without it is of a task that somebody deleted meanwhile."""
    payload = await queued(store)
    change(database, "DELETE FROM tasks")
    message = TaskMessage.of(payload, 0, START)

    assert await store.claim(message, "worker", LEASE, CHALLENGE) is NotClaimed.SUPERSEDED

    assert rows(database, "SELECT id FROM tasks") == []


async def test_of_one_key_one_task_is_recorded(store: TaskStore, other_store: TaskStore, database: Path) -> None:
    """However many ask, through whatever process; the others hear of the first."""
    first, second = a_payload("a"), a_payload("b")

    assert await store.add_once(first, START, TaskOptions(), key="k", fingerprint="f") is None
    again = await other_store.add_once(second, START, TaskOptions(), key="k", fingerprint="g")

    assert again == Known("a", TaskStatus.PENDING, "f")
    assert rows(database, "SELECT id FROM tasks") == [("a",)]
    assert rows(database, "SELECT task_id FROM changes") == [("a",)]


async def test_many_tasks_are_recorded_together_or_not_at_all(store: TaskStore, database: Path) -> None:
    """With their tags, in their order."""
    options = TaskOptions(tags=("x", "y"))

    await store.add_all([(a_payload(task_id), START, options) for task_id in ("a", "b")])

    assert rows(database, "SELECT id FROM tasks ORDER BY accepted_at") == [("a",), ("b",)]
    assert rows(database, "SELECT tag, task_id FROM task_tags") == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]


async def test_progress_is_kept_for_the_current_attempt_alone(store: TaskStore, database: Path) -> None:
    """The last report counts; a superseded attempt's counts for nothing."""
    await running(store)

    assert await store.report(Progress("a", 1, START, '{"fraction":0.5}'))
    assert not await store.report(Progress("a", 2, START, '{"fraction":0.9}'))

    assert rows(database, "SELECT progress FROM tasks") == [('{"fraction":0.5}',)]
    assert rows(database, "SELECT status, detail FROM changes ORDER BY seq DESC LIMIT 1") == [
        ("running", '{"fraction":0.5}')
    ]


async def test_every_change_is_noted_in_order(store: TaskStore, database: Path) -> None:
    """From its acceptance to its end; what the broker holds is no change to a client."""
    await final(store, TaskStatus.COMPLETED)

    assert rows(database, "SELECT task_id, status, attempt FROM changes ORDER BY seq") == [
        ("a", "pending", 0),
        ("a", "running", 1),
        ("a", "completed", 1),
    ]


async def test_ended_attempts_are_kept_in_order(store: TaskStore, database: Path) -> None:
    """Each with what came of it."""
    payload = (await running(store)).payload
    await store.settle(_failed(1, "first"))
    await claim(store, payload, attempt=1)
    await store.settle(_failed(2, "second"))

    kept: list[dict[str, Any]] = json.loads(f"[{row(database, 'a')['history']}]")

    assert [(attempt["attempt"], attempt["error"]) for attempt in kept] == [(1, "first"), (2, "second")]


async def _claim(store: TaskStore, limits: Limits) -> Claimed | NotClaimed:
    return await store.claim(TaskMessage.of(a_payload("a"), 0, START), "worker", LEASE, CHALLENGE, limits)


def _failed(attempt: int, error: str) -> Settlement:
    record = entry(attempt, started_at=1, ended_at=2, worker="w", outcome=AttemptOutcome.FAILED, error=error)
    return Settlement("a", attempt, TaskStatus.PENDING, error=error, due_at=START, now=START, entry=record)
