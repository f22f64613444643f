"""What the store promises to a sweep: what is due or lost is handed out again, each task to one sweep alone."""

import asyncio
import json
from pathlib import Path

import pytest

from taskqueue.schema import TaskStatus
from taskqueue.store import sweeps
from taskqueue.store.claims import Claimed
from taskqueue.store.doors import sweeping
from taskqueue.store.losses import LOSSES_IN_COMPANY, WORKER_LOST
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.sweeps import Ready
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import DISPATCH_LEASE, LEASE, claim, final, pending, queued, row, running

MAX_ATTEMPTS = 3


async def test_what_is_due_is_taken(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """It is pending, and this sweep's alone until its new instant."""
    payload = await pending(store, due_at=START + 10)
    clock.advance(0.01)

    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit=10)

    assert list(taken.ready) == [Ready(payload, attempt=0)]
    stored = row(database, "a")
    assert (stored["status"], stored["due_at"]) == ("pending", clock() + DISPATCH_LEASE)


async def test_what_is_not_due_is_left_alone(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """Neither what waits for its time, nor what the broker holds, nor what runs, nor what is final."""
    await pending(store, "later", due_at=START + 11)
    await queued(store, "queued")
    await running(store, "running")
    await final(store, TaskStatus.COMPLETED, "completed")
    ids = ("later", "queued", "running", "completed")
    before = [row(database, task_id) for task_id in ids]
    clock.advance(0.01)

    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit=10)

    assert (list(taken.ready), list(taken.failed)) == ([], [])
    assert [row(database, task_id) for task_id in ids] == before


async def test_what_was_taken_falls_due_again(store: TaskStore, clock: FrozenClock) -> None:
    """A sweep that dies with its tasks holds them for its lease and no longer."""
    payload = await pending(store, due_at=START)
    assert await _take(store) == ["a"]
    clock.advance(7.999)
    assert await _take(store) == []

    clock.advance(0.001)

    assert await _take(store) == ["a"]
    assert await claim(store, payload) == Claimed(payload, attempt=1, forgiven=0)


async def test_what_is_longest_due_comes_first(store: TaskStore, clock: FrozenClock) -> None:
    """Up to the limit; the rest is there for the next."""
    for number in (3, 1, 4, 2, 0):
        await pending(store, str(number), due_at=START + number)
    clock.advance(1)

    assert sorted(await _take(store, limit=2)) == ["0", "1"]
    assert sorted(await _take(store, limit=2)) == ["2", "3"]
    assert sorted(await _take(store, limit=2)) == ["4"]


async def test_large_tasks_are_taken_a_few_at_a_time(store: TaskStore, clock: FrozenClock) -> None:
    """A backlog of the largest tasks fits into a small container's memory, and still all of it is taken in turn."""
    text = "x" * (sweeps.MAX_CHARACTERS // 3)
    for number in range(7):
        await store.add(a_payload(str(number), data={"text": text * (4 if number == 6 else 1)}), START + number)
    clock.advance(1)

    taken = [sorted(await _take(store)) for _ in range(4)]

    assert taken == [["0", "1", "2"], ["3", "4", "5"], ["6"], []]


async def test_a_limit_of_nothing_takes_nothing(store: TaskStore, database: Path) -> None:
    """Its instant does not move either, so that the next sweep finds it at once."""
    await pending(store, due_at=START)
    before = row(database, "a")

    assert await _take(store, limit=0) == []

    assert row(database, "a") == before


async def test_two_sweeps_at_once_never_take_the_same_task(
    store: TaskStore, other_store: TaskStore, clock: FrozenClock
) -> None:
    """In two processes, again and again: each task goes to one, and none is left behind."""
    for number in range(100):
        await pending(store, f"{number:02}", due_at=START)
    clock.advance(1)

    taken = await asyncio.gather(*(_take(each, limit=7) for _ in range(10) for each in (store, other_store)))

    assert sorted(task_id for batch in taken for task_id in batch) == [f"{number:02}" for number in range(100)]


async def test_a_silent_worker_loses_its_task(store: TaskStore, clock: FrozenClock) -> None:
    """When its lease has run out the task is ready for the next attempt, and the silent one records nothing."""
    payload = (await running(store)).payload
    clock.advance(LEASE / 1000)

    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit=10)

    assert list(taken.ready) == [Ready(payload, attempt=1)]
    assert not await store.settle(Settlement("a", 1, TaskStatus.COMPLETED, result="1", now=1000))
    assert await claim(store, payload, attempt=1) == Claimed(payload, attempt=2, forgiven=1)


@pytest.mark.parametrize("limit", [10, 0])
async def test_a_task_that_lost_its_last_worker_fails(
    store: TaskStore, database: Path, clock: FrozenClock, limit: int
) -> None:
    """With an error that says so, even while there is nobody to hand ready tasks to; others go on."""
    await _spend(store, "spent", attempts=MAX_ATTEMPTS, alone=True)
    await _spend(store, "one left", attempts=MAX_ATTEMPTS - 1, alone=True)
    await _spend(store, "neighbour", attempts=MAX_ATTEMPTS)
    clock.advance(LEASE / 1000)

    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit)

    assert list(taken.failed) == ["spent"]
    assert {ready.payload.id for ready in taken.ready} == ({"one left", "neighbour"} if limit else set())
    stored = row(database, "spent")
    assert (stored["status"], stored["error"], stored["due_at"]) == ("failed", WORKER_LOST, None)
    assert (stored["processed_at"], stored["attempt"]) == (clock() // 1000, MAX_ATTEMPTS)


async def test_a_loss_in_company_is_forgiven_and_then_the_task_runs_alone(store: TaskStore, database: Path) -> None:
    """A neighbour may have brought the worker down: who it was shows when it runs beside nobody."""
    clock = store._clock
    assert isinstance(clock, FrozenClock)
    payload = await queued(store)
    for attempt in range(LOSSES_IN_COMPANY):
        assert isinstance(await claim(store, payload, attempt), Claimed)
        clock.advance(LEASE / 1000)
        (ready,) = (await store.take_due(DISPATCH_LEASE, 1, limit=10)).ready
        assert ready.alone == (attempt + 1 == LOSSES_IN_COMPANY)

    assert isinstance(await claim(store, payload, LOSSES_IN_COMPANY, alone=True), Claimed)
    clock.advance(LEASE / 1000)
    assert (await store.take_due(DISPATCH_LEASE, 1, limit=10)).failed == ["a"]
    assert (row(database, "a")["lost"], row(database, "a")["forgiven"]) == (LOSSES_IN_COMPANY + 1, LOSSES_IN_COMPANY)
    outcomes = [attempt["outcome"] for attempt in json.loads(f"[{row(database, 'a')['history']}]")]
    assert outcomes == ["lost"] * (LOSSES_IN_COMPANY + 1)


async def test_an_attempt_that_was_handed_back_is_not_spent(store: TaskStore, clock: FrozenClock) -> None:
    """A task that met three shutdowns has all of its attempts left."""
    await _spend(store, "a", attempts=4, handed_back=3)
    clock.advance(LEASE / 1000)
    assert await _take(store) == ["a"]
    await claim(store, (await running(store, "other")).payload)

    await _spend(store, "b", attempts=MAX_ATTEMPTS + 3, handed_back=3, alone=True)
    clock.advance(LEASE / 1000)
    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit=0)

    assert list(taken.failed) == ["b"]


async def test_a_task_whose_last_attempt_waits_is_not_failed(store: TaskStore, clock: FrozenClock) -> None:
    """Only a lost worker ends a task here; what failed is the worker's to say."""
    await _spend(store, "a", attempts=MAX_ATTEMPTS)
    await store.settle(Settlement("a", MAX_ATTEMPTS, TaskStatus.PENDING, due_at=START))
    clock.advance(1)

    assert await _take(store) == ["a"]


async def test_a_lost_message_is_made_again(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """A queued task whose message was made before the given instant is due now; a younger one is left alone."""
    await queued(store, "old", dispatched_at=START - 2)
    await queued(store, "young", dispatched_at=START - 1)
    clock.advance(60)

    assert await store.requeue_lost(made_before=START - 1) == 1

    stored = row(database, "old")
    assert (stored["status"], stored["due_at"], stored["queued_at"]) == ("pending", clock(), None)
    assert row(database, "young")["status"] == "queued"
    assert await _take(store) == ["old"]


async def test_only_queued_tasks_have_messages_to_lose(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """What is pending, running or final is not touched."""
    await pending(store, "pending")
    await running(store, "running")
    await final(store, TaskStatus.FAILED, "failed")
    ids = ("pending", "running", "failed")
    before = [row(database, task_id) for task_id in ids]

    assert await store.requeue_lost(made_before=clock.advance(1_000)) == 0

    assert [row(database, task_id) for task_id in ids] == before


async def test_a_whole_lost_queue_is_made_again(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, in commits of bounded size."""
    monkeypatch.setattr(sweeping, "REQUEUE_LIMIT", 3)
    for number in range(10):
        await queued(store, str(number))

    assert await store.requeue_lost(made_before=START + 1) == 10
    assert await store.requeue_lost(made_before=START + 1) == 0


async def test_two_searches_at_once_find_a_lost_message_once(store: TaskStore, other_store: TaskStore) -> None:
    """Together they count what was lost, and no more."""
    for number in range(10):
        await queued(store, str(number))

    found = await asyncio.gather(*(each.requeue_lost(START + 1) for each in (store, other_store, store)))

    assert sum(found) == 10


async def test_the_late_message_of_a_task_that_counted_as_lost_starts_its_attempt_once(store: TaskStore) -> None:
    """A wrong guess costs a message and nothing else."""
    payload = await queued(store)
    await store.requeue_lost(made_before=START + 1)
    assert await _take(store) == ["a"]

    answers = [await claim(store, payload), await claim(store, payload)]

    assert [isinstance(answer, Claimed) for answer in answers] == [True, False]


async def test_a_new_process_takes_up_what_the_last_one_left(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """What was queued or running is due now, what waits for its time goes on waiting, what is final stays so."""
    await queued(store, "queued")
    await running(store, "running")
    await pending(store, "waiting", due_at=START + 9_999)
    await final(store, TaskStatus.COMPLETED, "completed")

    assert await store.resume() == 2

    assert row(database, "waiting")["due_at"] == START + 9_999
    assert row(database, "completed")["due_at"] is None
    clock.advance(0.001)
    assert sorted(await _take(store)) == ["queued", "running"]


async def test_a_task_that_kills_every_process_ends(store: TaskStore, clock: FrozenClock) -> None:
    """An attempt that a crash cut short is spent: restarts do not go on for ever."""
    payload = await queued(store)
    for attempt in range(MAX_ATTEMPTS):
        assert isinstance(await claim(store, payload, attempt, alone=True), Claimed)
        await store.resume()
        clock.advance(0.001)
        assert await _take(store) == (["a"] if attempt + 1 < MAX_ATTEMPTS else [])

    task = await store.find("a")
    assert task is not None
    assert (task.status, task.attempts) == (TaskStatus.FAILED, MAX_ATTEMPTS)


async def _take(store: TaskStore, limit: int = 100) -> list[str]:
    taken = await store.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, limit)
    return [ready.payload.id for ready in taken.ready]


async def _spend(store: TaskStore, task_id: str, attempts: int, handed_back: int = 0, *, alone: bool = False) -> None:
    """A task that runs in its attempt number `attempts`, of which so many were handed back."""
    payload = (await running(store, task_id)).payload
    for attempt in range(1, attempts):
        back = attempt <= handed_back
        await store.settle(Settlement(task_id, attempt, TaskStatus.PENDING, due_at=START, handed_back=back))
        await store.mark_queued([Dispatched(task_id, attempt, START)])
        assert isinstance(await claim(store, payload, attempt, alone=alone), Claimed)
