"""What the store promises of a single task: each transition, and the guard of each."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from taskqueue.errors import QueryFailed
from taskqueue.schema import TaskPayload, TaskStatus
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.pages import Wanted
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from taskqueue.store.under_way import Lease
from tests.support.builders import a_payload
from tests.support.database import write_locked
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import CHALLENGE, DISPATCH_LEASE, LEASE, claim, final, pending, queued, row, running

Begin = Callable[[TaskStore], Awaitable[TaskPayload]]

FINAL = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED]


async def test_a_new_task_is_pending(store: TaskStore, database: Path) -> None:
    """It has its payload, no attempt, and an instant at which it must be dispatched."""
    payload = a_payload("a", action="sum", data={"numbers": [1], "é": "\0\u2028"})

    await store.add(payload, due_at=START + 8_000)

    stored = row(database, "a")
    assert json.loads(stored["payload"]) == payload.model_dump()
    assert (stored["status"], stored["attempt"], stored["due_at"]) == ("pending", 0, START + 8_000)
    assert stored["accepted_at"] == START * 1000
    assert all(stored[column] is None for column in ("result", "processed_at", "queued_at", "worker", "error"))


async def test_a_task_is_found_as_clients_see_it(store: TaskStore) -> None:
    """Payload and result as JSON values, times in whole seconds."""
    await final(store, TaskStatus.COMPLETED)

    task = await store.find("a")

    assert task is not None
    assert task.payload == a_payload("a").model_dump()
    assert (task.status, task.result, task.error) == (TaskStatus.COMPLETED, {"output": 1}, "why")
    assert (task.created_at, task.processed_at, task.attempts) == (1_700_000_000, 7, 1)


async def test_an_unknown_task_is_not_found(store: TaskStore) -> None:
    """None, and no error; an id that is no UUID, or would be a pattern elsewhere, is only unknown."""
    await pending(store)

    for unknown in ("b", "", "A", "%", "a' OR 'a'='a"):
        assert await store.find(unknown) is None


async def test_an_id_is_taken_once(store: TaskStore) -> None:
    """A second task of the same id is refused, and the first is not touched."""
    await queued(store)

    with pytest.raises(QueryFailed):
        await store.add(a_payload("a", action="other"), due_at=START)

    task = await store.find("a")
    assert task is not None
    assert (task.status, task.payload["action"]) == (TaskStatus.QUEUED, "resize")


async def test_tasks_are_listed_newest_first(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """In the order in which they were taken, in the same millisecond too, and though the clock goes back."""
    for number in range(5):
        await pending(store, f"same {number}")
    await asyncio.gather(*(pending(store, f"together {number}") for number in range(5)))
    clock.advance(-60)
    await pending(store, "back")
    clock.advance(120)
    await pending(store, "last")

    newest = [task.id for task in (await store.page()).tasks]

    together = [f"together {number}" for number in (4, 3, 2, 1, 0)]
    assert newest == ["last", "back", *together, *(f"same {number}" for number in (4, 3, 2, 1, 0))]
    stamps = [row(database, task_id)["accepted_at"] for task_id in newest]
    assert stamps == sorted(set(stamps), reverse=True)


@pytest.mark.parametrize(("back", "kept"), [(60, True), (86_400, False)])
async def test_a_clock_that_is_set_back_a_little_keeps_the_order(
    store: TaskStore, clock: FrozenClock, back: float, *, kept: bool
) -> None:
    """One that has been wrong by hours is believed again: else all later tasks would be from the future, and stay."""
    for task_id, step in (("first", -back), ("second", 0), ("third", 1)):
        await pending(store, task_id)
        clock.advance(step)

    newest_first = [task.id for task in (await store.page()).tasks]

    assert newest_first == (["third", "second", "first"] if kept else ["first", "third", "second"])


async def test_a_list_has_100_tasks_at_most(store: TaskStore) -> None:
    """The newest of them, whatever their number, and of their status alone where one is asked for."""
    for number in range(0, 240, 2):
        await pending(store, f"{number:03}")
        await queued(store, f"{number + 1:03}")

    newest = (await store.page()).tasks
    queued_ones = (await store.page(Wanted(frozenset({TaskStatus.QUEUED})))).tasks

    assert [task.id for task in newest] == [f"{number:03}" for number in range(239, 139, -1)]
    assert [task.id for task in queued_ones] == [f"{number:03}" for number in range(239, 39, -2)]


async def test_a_list_may_be_of_one_status(store: TaskStore) -> None:
    """Each status has its own tasks, and none is no fault."""
    await pending(store, "pending")
    await queued(store, "queued")
    await running(store, "running")
    await final(store, TaskStatus.COMPLETED, "completed")
    await final(store, TaskStatus.FAILED, "failed")

    for status in TaskStatus:
        listed = [task.id for task in (await store.page(Wanted(frozenset({status})))).tasks]
        assert listed == ([] if status is TaskStatus.CANCELLED else [status])


async def test_a_pending_task_becomes_queued(store: TaskStore, database: Path) -> None:
    """It is due no more, and the instant of its message is noted."""
    await pending(store)

    await store.mark_queued([Dispatched("a", 0, START + 3)])

    stored = row(database, "a")
    assert (stored["status"], stored["due_at"], stored["queued_at"]) == ("queued", None, START + 3)


async def test_a_confirmation_that_comes_late_changes_nothing(store: TaskStore, database: Path) -> None:
    """A worker may be faster than the note that the broker has confirmed, and even have finished."""
    payload = await pending(store)
    await claim(store, payload)
    before = row(database, "a")
    await store.mark_queued([Dispatched("a", 0, START)])
    assert row(database, "a") == before

    await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="again", due_at=START + 99))
    before = row(database, "a")
    await store.mark_queued([Dispatched("a", 0, START)])
    assert row(database, "a") == before


async def test_a_confirmation_of_another_attempt_changes_nothing(store: TaskStore, database: Path) -> None:
    """Neither an older nor a newer one."""
    await running(store)
    await store.settle(Settlement("a", 1, TaskStatus.PENDING, due_at=START))
    before = row(database, "a")

    for attempt in (0, 2):
        await store.mark_queued([Dispatched("a", attempt, START)])

    assert row(database, "a") == before


async def test_a_confirmation_of_nothing_is_harmless(store: TaskStore) -> None:
    """An id that the store does not know is not made."""
    await store.mark_queued([Dispatched("unknown", 0, START)])

    assert (await store.page()).tasks == []


async def test_a_second_confirmation_keeps_the_first(store: TaskStore, database: Path) -> None:
    """The older message is the one whose loss is looked for."""
    await queued(store, dispatched_at=START)

    await store.mark_queued([Dispatched("a", 0, START + 5_000)])

    assert row(database, "a")["queued_at"] == START


@pytest.mark.parametrize("begin", [pending, queued])
async def test_a_ready_task_is_claimed(store: TaskStore, database: Path, begin: Begin) -> None:
    """It runs in its first attempt under a lease, and who claimed it, and when, is noted."""
    payload = await begin(store)

    claimed = await claim(store, payload)

    assert claimed == Claimed(payload, attempt=1, forgiven=0)
    stored = row(database, "a")
    assert (stored["status"], stored["attempt"], stored["worker"]) == ("running", 1, "worker")
    assert (stored["due_at"], stored["queued_at"], stored["started_at"]) == (START + LEASE, None, START)


async def test_a_claim_answers_the_payload_of_the_store(store: TaskStore) -> None:
    """A message is a hint: what was accepted is performed, not what a message says."""
    payload = await queued(store)

    claimed = await claim(store, a_payload("a", action="format disk", data={"now": True}))

    assert claimed == Claimed(payload, attempt=1, forgiven=0)


async def test_a_message_that_comes_twice_starts_one_attempt(
    store: TaskStore, database: Path, clock: FrozenClock
) -> None:
    """The second is told that the attempt runs; its worker then has only so long to show that it lives."""
    payload = (await running(store)).payload
    clock.advance(1)

    assert await claim(store, payload, worker="another") is NotClaimed.RUNNING

    stored = row(database, "a")
    assert (stored["status"], stored["attempt"], stored["worker"]) == ("running", 1, "worker")
    assert stored["due_at"] == clock() + CHALLENGE


async def test_a_challenge_never_makes_a_lease_longer(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """A worker that is nearly given up, or already is, gains nothing by a duplicate."""
    payload = (await running(store)).payload

    for moment in (28, 10):
        clock.advance(moment)
        assert await claim(store, payload) is NotClaimed.RUNNING
        assert row(database, "a")["due_at"] == START + LEASE


@pytest.mark.parametrize("attempt", [0, 2, 99])
async def test_a_message_of_another_attempt_starts_nothing(store: TaskStore, database: Path, attempt: int) -> None:
    """The attempt number is the message's right to start one, once."""
    payload = (await running(store)).payload
    await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="again", due_at=START))
    before = row(database, "a")

    assert await claim(store, payload, attempt) is NotClaimed.SUPERSEDED

    assert row(database, "a") == before


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("attempt", [0, 1])
async def test_a_final_task_is_not_claimed(store: TaskStore, status: TaskStatus, attempt: int) -> None:
    """Whichever message comes, now or later."""
    await final(store, status)

    assert await claim(store, a_payload("a"), attempt) is NotClaimed.SUPERSEDED


@pytest.mark.parametrize("attempt", [0, 3])
async def test_a_task_that_nobody_recorded_is_recorded_by_its_claim(
    store: TaskStore, database: Path, attempt: int
) -> None:
    """From another producer, or after the database was lost: it runs in its first attempt, and clients can read it."""
    foreign = a_payload("foreign", action="sum", data={"numbers": [1]})

    assert await claim(store, foreign, attempt) == Claimed(foreign, attempt=1, forgiven=0)

    stored = row(database, "foreign")
    assert (stored["status"], stored["due_at"], stored["worker"]) == ("running", START + LEASE, "worker")
    task = await store.find("foreign")
    assert task is not None
    assert task.payload == foreign.model_dump()
    assert [task.id for task in (await store.page()).tasks] == ["foreign"]


@pytest.mark.parametrize("known", [True, False])
async def test_of_messages_that_come_at_once_one_wins(store: TaskStore, known: bool) -> None:
    """On both channels, in one commit: exactly one attempt begins, for a task on record or not."""
    payload = await queued(store) if known else a_payload("a")

    answers = await asyncio.gather(*(claim(store, payload) for _ in range(20)))

    assert answers.count(Claimed(payload, attempt=1, forgiven=0)) == 1
    assert answers.count(NotClaimed.RUNNING) == 19


async def test_of_claims_at_once_each_gets_its_own_answer(store: TaskStore) -> None:
    """However they are mixed: of many tasks, by two workers, of right and wrong attempts."""
    payloads = [await queued(store, f"{number:02}") for number in range(20)]
    wishes = [(payload, attempt) for attempt in (1, 0) for payload in payloads]

    answers = await asyncio.gather(*(claim(store, payload, attempt) for payload, attempt in wishes))

    assert answers[20:] == [Claimed(payload, attempt=1, forgiven=0) for payload in payloads]
    assert answers[:20] == [NotClaimed.SUPERSEDED] * 20


async def test_of_two_processes_that_claim_at_once_one_wins(store: TaskStore, other_store: TaskStore) -> None:
    """For every task exactly one of them, on record or not."""
    payloads = [await queued(store, f"{number:02}") for number in range(20)]
    payloads += [a_payload(f"foreign {number:02}") for number in range(20)]

    answers = await asyncio.gather(*(claim(each, payload) for payload in payloads for each in (store, other_store)))

    for one, two in zip(answers[::2], answers[1::2], strict=True):
        assert sorted([isinstance(one, Claimed), isinstance(two, Claimed)]) == [False, True]


@pytest.mark.parametrize(("begin", "left"), [(queued, LEASE), (running, CHALLENGE)])
async def test_a_claim_that_had_to_wait_gives_its_whole_time(
    store: TaskStore, database: Path, clock: FrozenClock, begin: Callable[[TaskStore], Awaitable[object]], left: int
) -> None:
    """For the lock, or while its process stood still: a lease, and a challenge, begin when they are on disk."""
    await begin(store)
    with write_locked(database):
        claiming = asyncio.create_task(claim(store, a_payload("a")))
        await asyncio.sleep(0)  # by then it has been asked for
        clock.advance(10)
    await claiming

    assert row(database, "a")["due_at"] == clock() + left


async def test_a_later_attempt_counts_on(store: TaskStore, database: Path) -> None:
    """After a retry the next attempt has the next number, and the last error stays to be read meanwhile."""
    payload = (await running(store)).payload
    await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="first", due_at=START))
    await store.mark_queued([Dispatched("a", 1, START)])

    assert await claim(store, payload, attempt=1) == Claimed(payload, attempt=2, forgiven=0)

    assert row(database, "a")["error"] == "first"


@pytest.mark.parametrize("status", FINAL)
async def test_an_outcome_is_recorded(store: TaskStore, database: Path, status: TaskStatus) -> None:
    """With result, error and instant; the task is due no more."""
    settlement = await final(store, status)

    stored = row(database, "a")
    assert (stored["status"], stored["result"], stored["error"]) == (status, settlement.result, settlement.error)
    assert (stored["processed_at"], stored["due_at"]) == (7, None)


async def test_a_failed_attempt_waits_for_the_next(store: TaskStore, database: Path) -> None:
    """It is pending until its instant, and not finished."""
    await running(store)

    assert await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="first", due_at=START + 77))

    stored = row(database, "a")
    assert (stored["status"], stored["due_at"], stored["error"]) == ("pending", START + 77, "first")
    assert (stored["processed_at"], stored["attempt"], stored["forgiven"]) == (None, 1, 0)


async def test_a_hand_back_is_no_attempt_to_clients_and_keeps_the_last_error(store: TaskStore) -> None:
    """Clients see the attempts that count, and what the last one that failed said."""
    payload = (await running(store)).payload
    await store.settle(Settlement("a", 1, TaskStatus.PENDING, error="broke", due_at=START))
    await claim(store, payload, attempt=1)

    await store.settle(Settlement("a", 2, TaskStatus.PENDING, due_at=START, handed_back=True))

    task = await store.find("a")
    assert task is not None
    assert (task.attempts, task.error) == (1, "broke")


async def test_a_page_of_large_tasks_is_short(store: TaskStore) -> None:
    """A page ends where it has grown large, whatever its number of tasks: it must fit into memory."""
    for number in range(6):
        await store.add(a_payload(str(number), data={"text": "x" * 800_000}), due_at=START)

    assert [task.id for task in (await store.page()).tasks] == ["5", "4", "3"]


async def test_attempts_that_are_handed_back_are_counted(store: TaskStore) -> None:
    """The next claim knows how many attempts were not the task's fault."""
    payload = (await running(store)).payload
    for attempt in (1, 2):
        await store.settle(Settlement("a", attempt, TaskStatus.PENDING, due_at=START, handed_back=True))

        claimed = await claim(store, payload, attempt)

        assert claimed == Claimed(payload, attempt=attempt + 1, forgiven=attempt)


async def test_of_tasks_that_are_written_together_each_keeps_its_own(store: TaskStore, database: Path) -> None:
    """Payload, claim and outcome: what one commit has of many is not mixed up."""
    names = [f"task {number}" for number in range(30)]
    payloads = [a_payload(name, data={"own": name}) for name in names]
    with write_locked(database):  # so that all but the first wait for one commit
        adding = [asyncio.ensure_future(store.add(payload, START)) for payload in payloads]
        await asyncio.sleep(0)
    await asyncio.gather(*adding)

    claimed = await asyncio.gather(*(claim(store, payload) for payload in payloads))
    ends = [
        Settlement(name, 1, FINAL[number % 3], json.dumps(name), f"error of {name}", now=START + number)
        for number, name in enumerate(names)
    ]
    became = await asyncio.gather(*map(store.settle, reversed(ends)))

    assert claimed == [Claimed(payload, attempt=1) for payload in payloads]
    assert list(reversed(became)) == [end.status for end in ends]
    for payload, end in zip(payloads, ends, strict=True):
        stored = row(database, end.id)
        assert json.loads(stored["payload"]) == payload.model_dump()
        kept = tuple(stored[column] for column in ("status", "result", "error", "ended_at"))
        assert kept == (end.status, end.result, end.error, end.now)


@pytest.mark.parametrize("attempt", [0, 1, 3])
async def test_an_attempt_that_is_not_the_current_one_records_nothing(
    store: TaskStore, database: Path, attempt: int
) -> None:
    """A worker that lost its lease is fenced out by its attempt's number, however late it comes."""
    payload = (await running(store)).payload
    await store.settle(Settlement("a", 1, TaskStatus.PENDING, due_at=START))
    await claim(store, payload, attempt=1)
    before = row(database, "a")

    assert not await store.settle(Settlement("a", attempt, TaskStatus.COMPLETED, result="1", now=1000))
    assert not await store.renew(Lease("a", attempt, START + 99_999))

    assert row(database, "a") == before


@pytest.mark.parametrize("begin", [pending, queued])
async def test_a_task_that_does_not_run_has_no_outcome(store: TaskStore, database: Path, begin: Begin) -> None:
    """Nobody settles what nobody has claimed."""
    await begin(store)
    before = row(database, "a")

    for attempt in (0, 1):
        assert not await store.settle(Settlement("a", attempt, TaskStatus.COMPLETED, now=1000))
        assert not await store.renew(Lease("a", attempt, START + 99_999))

    assert row(database, "a") == before


async def test_an_unknown_task_has_no_outcome(store: TaskStore) -> None:
    """Nothing is made up for it."""
    assert not await store.settle(Settlement("unknown", 1, TaskStatus.COMPLETED, now=1000))
    assert not await store.renew(Lease("unknown", 1, START))
    assert (await store.page()).tasks == []


async def test_of_outcomes_at_once_one_is_recorded(store: TaskStore, database: Path) -> None:
    """In one commit too: who is told what the task has become has been recorded, and nobody else is."""
    await running(store)
    outcomes = [Settlement("a", 1, TaskStatus.COMPLETED, result=str(number), now=1000) for number in range(10)]

    recorded = await asyncio.gather(*(store.settle(outcome) for outcome in outcomes))

    assert (recorded.count(TaskStatus.COMPLETED), recorded.count(None)) == (1, 9)
    assert row(database, "a")["result"] == str(recorded.index(TaskStatus.COMPLETED))


@pytest.mark.parametrize("status", FINAL)
async def test_a_final_task_never_changes(
    store: TaskStore, database: Path, clock: FrozenClock, status: TaskStatus
) -> None:
    """Whatever is asked of the store, however late."""
    await final(store, status)
    before = row(database, "a")
    clock.advance(1_000_000)

    for attempt in (0, 1, 2):
        await store.mark_queued([Dispatched("a", attempt, clock())])
        await claim(store, a_payload("a"), attempt)
        assert not await store.settle(Settlement("a", attempt, TaskStatus.PENDING, due_at=1))
        assert not await store.settle(Settlement("a", attempt, TaskStatus.COMPLETED, result="2", now=2000))
        assert not await store.renew(Lease("a", attempt, clock()))
    taken = await store.take_due(DISPATCH_LEASE, max_attempts=1, limit=100)
    resumed = [await store.requeue_lost(clock()), await store.resume()]

    assert (list(taken.ready), list(taken.failed), resumed) == ([], [], [0, 0])
    assert row(database, "a") == before


async def test_a_lease_is_renewed(store: TaskStore, database: Path, clock: FrozenClock) -> None:
    """As long as its attempt runs, after a challenge too, and even when it has run out and nobody has noticed."""
    payload = (await running(store)).payload
    await claim(store, payload)

    for _ in range(3):
        clock.advance(20)
        assert await store.renew(Lease("a", 1, clock() + LEASE))
        assert row(database, "a")["due_at"] == clock() + LEASE
    clock.advance(999)

    assert await store.renew(Lease("a", 1, clock() + LEASE))


async def test_renewals_at_once_have_an_answer_each(store: TaskStore) -> None:
    """A worker renews all its leases in one commit, and learns which of them it has lost."""
    for number in range(10):
        await running(store, str(number))
    for number in range(0, 10, 2):
        await store.settle(Settlement(str(number), 1, TaskStatus.PENDING, due_at=START))

    held = await asyncio.gather(*(store.renew(Lease(str(number), 1, START + LEASE)) for number in range(10)))

    assert held == [False, True] * 5
