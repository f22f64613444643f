"""What the store promises to people: what they cancel, retry or delete, and that nothing else leaves a final status."""

import asyncio
from pathlib import Path

import pytest

from taskqueue.schema import TaskMessage, TaskOptions, TaskStatus
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.orders import Cancelled, Deleted, Order, Refused, Retried
from taskqueue.store.settling import Settlement
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.database import change, rows
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import CHALLENGE, DISPATCH_LEASE, LEASE, claim, final, pending, queued, row, running

FINAL = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED]
OPTIONS = TaskOptions(tags=("x", "y"))


@pytest.mark.parametrize("begin", [pending, queued])
async def test_a_task_that_has_not_begun_is_cancelled_at_once(
    store: TaskStore, database: Path, clock: FrozenClock, begin: object
) -> None:
    """It is final, due never, and its message starts nothing."""
    assert callable(begin)
    payload = await begin(store)
    clock.advance(1)

    assert await store.cancel(Order("a", clock())) is Cancelled.AT_ONCE

    stored = row(database, "a")
    assert (stored["status"], stored["due_at"], stored["queued_at"]) == ("cancelled", None, None)
    assert (stored["ended_at"], stored["processed_at"]) == (clock(), clock() // 1000)
    assert await claim(store, payload) is NotClaimed.SUPERSEDED
    assert _changes(database)[-1] == ("cancelled", 0, clock())


async def test_a_running_task_is_asked_to_stop_once(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Its worker finds the request; a second one does not change the first, and the answer is the same."""
    await running(store)

    for seconds in (1, 1):
        clock.advance(seconds)
        assert await store.cancel(Order("a", clock())) is Cancelled.REQUESTED

    stored = row(database, "a")
    assert (stored["status"], stored["cancel_requested_at"]) == ("running", START + 1_000)
    assert await store.called_off("worker") == [("a", 1)]


async def test_a_task_that_was_called_off_is_not_tried_again(store: TaskStore, database: Path) -> None:
    """An attempt that fails while its task is called off ends it; one that succeeds counts."""
    await running(store, "failing")
    await running(store, "succeeding")
    for task_id in ("failing", "succeeding"):
        await store.cancel(Order(task_id, START))

    await store.settle(Settlement("failing", 1, TaskStatus.PENDING, error="no", due_at=START + 1, now=START))
    await store.settle(Settlement("succeeding", 1, TaskStatus.COMPLETED, result="1", now=START))

    assert (row(database, "failing")["status"], row(database, "failing")["due_at"]) == ("cancelled", None)
    assert row(database, "succeeding")["status"] == "completed"


async def test_what_is_finished_cannot_be_cancelled(store: TaskStore, database: Path) -> None:
    """What was cancelled before is told so; nothing changes."""
    for status in FINAL:
        await final(store, status, status)
    before = [row(database, status) for status in FINAL]

    answers = [await store.cancel(Order(status, START + 1)) for status in (*FINAL, "unknown")]

    assert answers == [Refused.STATUS, Refused.STATUS, Cancelled.BEFORE, Refused.UNKNOWN]
    assert [row(database, status) for status in FINAL] == before


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
async def test_a_retry_gives_a_task_all_its_attempts(
    store: TaskStore, database: Path, clock: FrozenClock, status: TaskStatus
) -> None:
    """It is pending, nothing of its end is left, and its next attempt has the next number."""
    await final(store, status)
    clock.advance(1)

    answer = await store.retry(Order("a", clock(), due_at=clock() + DISPATCH_LEASE))

    assert answer == Ready(a_payload("a"), attempt=1)
    stored = row(database, "a")
    assert (stored["status"], stored["attempt"], stored["forgiven"]) == ("pending", 1, 1)
    assert stored["due_at"] == clock() + DISPATCH_LEASE
    assert [stored[name] for name in ("result", "error", "processed_at", "ended_at")] == [None] * 4
    assert _changes(database)[-1] == ("pending", 1, clock())
    payload = a_payload("a")
    assert await claim(store, payload, attempt=0) is NotClaimed.SUPERSEDED
    assert await claim(store, payload, attempt=1) == Claimed(payload, attempt=2, forgiven=1)


async def test_a_retry_of_many_reads_none_of_them(store: TaskStore, database: Path) -> None:
    """What they are to do may be a megabyte each, and it is the sweep that hands them out, as many as fit."""
    for name in ("a", "b"):
        await final(store, TaskStatus.FAILED, name)
    change(database, "UPDATE tasks SET payload = 'unreadable'")

    answers = await store.retry_all([Order(name, START, due_at=START) for name in ("a", "b", "a", "unknown")])

    assert answers == [Retried.DUE, Retried.DUE, Refused.STATUS, Refused.UNKNOWN]


async def test_only_failed_and_cancelled_tasks_can_be_retried(store: TaskStore, database: Path) -> None:
    """A completed one stays what it is, and one that is under way too."""
    await pending(store, "pending")
    await queued(store, "queued")
    await running(store, "running")
    await final(store, TaskStatus.COMPLETED, "completed")
    ids = ("pending", "queued", "running", "completed")
    before = [row(database, task_id) for task_id in ids]

    answers = [await store.retry(Order(task_id, START)) for task_id in (*ids, "unknown")]

    assert answers == [Refused.STATUS] * 4 + [Refused.UNKNOWN]
    assert [row(database, task_id) for task_id in ids] == before


async def test_a_retried_task_keeps_what_lies_ahead(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """An expiry that has passed would end it at once, and so it goes; one that is to come stays. It runs now."""
    for task_id, expires_at in (("past", START + 1), ("ahead", START + 9_999)):
        options = TaskOptions(expires_at=expires_at, run_at=START + 9_000)
        await store.add(a_payload(task_id), START + 9_000, options)
        await store.cancel(Order(task_id, START))
    clock.advance(1)

    for task_id in ("past", "ahead"):
        assert isinstance(await store.retry(Order(task_id, clock(), clock())), Ready)

    kept = rows(database, "SELECT id, expires_at, run_at FROM tasks ORDER BY id")
    assert list(kept) == [("ahead", START + 9_999, None), ("past", None, None)]


async def test_of_retries_at_once_one_is_carried_out(store: TaskStore, other_store: TaskStore) -> None:
    """In one process and in two: the task is handed out once."""
    await final(store, TaskStatus.FAILED)

    answers = await asyncio.gather(*(each.retry(Order("a", START)) for each in (store, store, other_store)))

    assert sorted(type(answer).__name__ for answer in answers) == ["Ready", "Refused", "Refused"]


async def test_an_order_holds_only_among_the_statuses_that_it_names(store: TaskStore, database: Path) -> None:
    """Who wants to cancel what is pending does not mean what has begun meanwhile."""
    await pending(store, "pending")
    await running(store, "running")
    among = frozenset({TaskStatus.PENDING})

    answers = await store.cancel_all([Order(task_id, START, among=among) for task_id in ("pending", "running")])

    assert answers == [Cancelled.AT_ONCE, Refused.STATUS]
    assert row(database, "running")["cancel_requested_at"] is None


@pytest.mark.parametrize("status", FINAL)
async def test_a_deleted_task_leaves_nothing(store: TaskStore, database: Path, status: TaskStatus) -> None:
    """Its tags go with it, its idempotency key is free again, and others keep theirs."""
    for task_id, key in (("a", "key"), ("other", "other key")):
        await store.add_once(a_payload(task_id), START, OPTIONS, key=key, fingerprint="f")
        await claim(store, a_payload(task_id))
        assert await store.settle(Settlement(task_id, 1, status, now=START))

    assert await store.erase(Order("a", START)) is Deleted.GONE

    assert await store.find("a") is None
    assert sorted(rows(database, "SELECT tag, task_id FROM task_tags")) == [("x", "other"), ("y", "other")]
    assert await store.add_once(a_payload("b"), START, OPTIONS, key="key", fingerprint="g") is None
    assert await store.erase(Order("a", START)) is Refused.UNKNOWN


async def test_what_is_under_way_cannot_be_deleted(store: TaskStore) -> None:
    """Somebody is to carry it out."""
    await pending(store, "pending")
    await queued(store, "queued")
    await running(store, "running")

    for task_id in ("pending", "queued", "running"):
        assert await store.erase(Order(task_id, START)) is Refused.STATUS
        assert await store.find(task_id) is not None


async def test_a_message_of_a_deleted_task_starts_nothing(store: TaskStore) -> None:
    """It was recorded once: that it is not there says that somebody has deleted it."""
    payload = await queued(store)
    await store.cancel(Order("a", START))
    await store.erase(Order("a", START))
    message = TaskMessage.of(payload, 0, START)

    assert await store.claim(message, "worker", LEASE, CHALLENGE) is NotClaimed.SUPERSEDED

    assert await store.find("a") is None


async def test_many_orders_are_one_commit(store: TaskStore, database: Path) -> None:
    """Each is answered for itself, and a task that is named twice is cancelled once."""
    await pending(store, "pending")
    await running(store, "running")

    answers = await store.cancel_all([Order(i, START) for i in ("running", "pending", "unknown", "pending")])

    assert answers == [Cancelled.REQUESTED, Cancelled.AT_ONCE, Refused.UNKNOWN, Cancelled.AT_ONCE]
    assert len([each for each in _changes(database) if each[0] == "cancelled"]) == 1


async def test_an_old_history_outlives_a_retry(store: TaskStore, database: Path) -> None:
    """What was tried before is not forgotten."""
    await final(store, TaskStatus.FAILED)
    change(database, "UPDATE tasks SET history = '{}'")

    await store.retry(Order("a", START))

    assert row(database, "a")["history"] == "{}"


def _changes(database: Path) -> list[tuple[str, int, int]]:
    found = rows(database, "SELECT status, attempt, at FROM changes ORDER BY seq")
    return [(status, attempt, at) for status, attempt, at in found]
