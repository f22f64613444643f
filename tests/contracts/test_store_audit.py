"""The auditor on a real file: silent on all that the store itself brings about, and loud on what is broken by hand."""

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.audit import LONGEST_LEASE_MS, OVERDUE_MS, Auditor, Check, Report, summed
from taskqueue.broker.memory import MemoryBroker
from taskqueue.schema import Task, TaskMessage, TaskOptions, TaskStatus
from taskqueue.store.claims import Claimed
from taskqueue.store.flaws import FLAWS
from taskqueue.store.history import AttemptOutcome, entry
from taskqueue.store.orders import Deleted, Order
from taskqueue.store.settling import Settlement
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.database import change, connect, rows
from tests.support.doubles import AwayBroker
from tests.support.frozen_clock import START, FrozenClock
from tests.support.stored import CHALLENGE, LEASE, claim, pending, queued

MAX_ATTEMPTS = 5
README = Path(__file__).parents[2] / "README.md"

BROKEN: Mapping[str, tuple[str, str, str]] = {
    # the flaw: the task that is broken, what is done to it, and its invariant
    "unknown_status": ("waiting", "status = 'done'", "I1"),
    "pending_without_due_at": ("waiting", "due_at = NULL", "I1"),
    "queued_unfindable": ("queued", "queued_at = NULL", "I1"),
    "queued_unfindable ": ("queued", f"due_at = {START}", "I1"),
    "running_without_lease": ("running", "due_at = NULL", "I1"),
    "running_without_lease ": ("running", "attempt = 0", "I1"),
    "running_without_lease  ": ("running", "worker = NULL", "I1"),
    "lease_out_of_reach": ("running", f"due_at = {START + LONGEST_LEASE_MS + 60_000}", "I1"),
    "overdue_waiting": ("waiting", f"due_at = {START - OVERDUE_MS - 1}", "I1"),
    "overdue_running": ("running", f"due_at = {START - OVERDUE_MS - 1}", "I1"),
    "final_without_end": ("completed", "ended_at = NULL", "I1"),
    "final_without_end ": ("completed", "processed_at = NULL", "I1"),
    "final_but_due": ("completed", f"due_at = {START}", "I2"),
    "final_but_due ": ("failed", f"queued_at = {START}", "I2"),
    "ended_but_not_final": ("waiting", "ended_at = 7", "I2"),
    "attempt_after_the_end": ("retried", "history = replace(history, 'lost', 'completed')", "I2"),
    "attempt_after_the_end ": ("retried", "history = replace(history, 'lost', 'cancelled'), forgiven = 0", "I2"),
    "completed_without_result": ("completed", "result = NULL", "I3"),
    "completed_without_result ": ("running", "result = '1'", "I3"),
    "outcome_of_another": ("completed", "history = replace(history, 'completed', 'failed')", "I3"),
    "outcome_of_another ": ("failed", "history = replace(history, 'failed', 'completed')", "I3"),
    "outcome_of_another  ": ("failed", "history = replace(history, 'failed', 'handed_back')", "I3"),
    "attempts_out_of_order": ("retried", "history = replace(history, '\"attempt\":1', '\"attempt\":2')", "I3"),
    "attempts_out_of_order ": ("retried", "history = replace(history, '\"attempt\":1', '\"attempt\":3')", "I3"),
    "attempt_missing": ("completed", "attempt = 2", "I3"),
    "too_many_attempts": ("completed", "max_attempts = 0", "I6"),
    "too_many_attempts ": ("completed", "forgiven = 2", "I6"),
    "unreadable": ("completed", "payload = '{'", "I7"),
    "unreadable ": ("completed", "payload = json_set(payload, '$.id', 'another')", "I7"),
    "unreadable  ": ("completed", "result = 'NaN'", "I7"),
    "unreadable   ": ("completed", "history = history || ','", "I7"),
    "unreadable    ": ("completed", "tags = '['", "I7"),
}


@pytest.fixture(name="auditor")
def _auditor(store: TaskStore, clock: FrozenClock) -> Auditor:
    return Auditor(store, MemoryBroker(), clock, MAX_ATTEMPTS)


def test_every_flaw_is_shown() -> None:
    """There is no flaw that no row here has."""
    assert {flaw.name for flaw in FLAWS} == {name.strip() for name in BROKEN}


async def test_a_store_in_every_state_balances(auditor: Auditor, store: TaskStore, clock: FrozenClock) -> None:
    """Whatever a task has been through, no check finds anything."""
    await _every_state(store, clock)

    report = await auditor.report(integrity=True)

    assert _failed(report) == []
    assert {check.verdict for check in report.checks} == {"pass", "wait"}
    assert summed(report.facts) == {
        "accepted": 14,
        "completed": 2,
        "failed": 2,
        "cancelled": 2,
        "waiting": 5,
        "running": 1,
        "scheduled": 1,
        "removed": 1,
    }


@pytest.mark.parametrize("name", BROKEN)
async def test_a_row_that_is_broken_is_named(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path, name: str
) -> None:
    """By the check for just that, under its invariant; no other row is."""
    await _every_state(store, clock)
    task_id, breaking, invariant = BROKEN[name]
    assert _failed(await auditor.report()) == []

    change(database, f"UPDATE tasks SET {breaking} WHERE id = ?", task_id)  # noqa: S608 - of our own making

    report = await auditor.report()
    assert not report.balanced
    found = _check(report, name.strip())
    assert (found.verdict, found.invariant, found.count, found.ids) == ("fail", invariant, 1, (task_id,))
    assert {named for check in _failed(report) for named in check.ids} <= {task_id}


async def test_a_limit_is_asked_of_tasks_that_it_held_for(store: TaskStore, clock: FrozenClock, database: Path) -> None:
    """A setting that was lowered since makes no old task wrong; a limit of its own always counts."""
    await _every_state(store, clock)
    change(database, "UPDATE tasks SET attempt = attempt + 6, history = NULL WHERE id IN ('completed', 'failed')")
    change(database, "UPDATE tasks SET max_attempts = 6 WHERE id = 'failed'")
    before = Auditor(store, MemoryBroker(), lambda: START - 1000, MAX_ATTEMPTS)
    since = Auditor(store, MemoryBroker(), lambda: START + 86_400_000, MAX_ATTEMPTS)

    assert set(_check(await before.report(), "too_many_attempts").ids) == {"completed", "failed"}
    assert _check(await since.report(), "too_many_attempts").ids == ("failed",)


async def test_a_row_that_is_gone_is_missed_and_named(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """The tally misses it whatever it was; where it had not ended, the log of changes still knows its name."""
    await _every_state(store, clock)

    change(database, "DELETE FROM tasks WHERE id IN ('running', 'waiting', 'completed')")

    report = await auditor.report()
    balance, lost = _check(report, "balance"), _check(report, "lost")
    assert (balance.verdict, balance.count) == ("fail", 3)
    assert (lost.verdict, lost.invariant, sorted(lost.ids)) == ("fail", "I1", ["running", "waiting"])


async def test_a_row_that_nobody_accepted_is_counted(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """More than were accepted is as wrong as fewer."""
    await _every_state(store, clock)
    change(
        database,
        "INSERT INTO tasks (id, payload, created_at, accepted_at, due_at) VALUES ('x', '{\"id\":\"x\"}', 1, 1, ?)",
        START,
    )

    balance = _check(await auditor.report(), "balance")

    assert (balance.verdict, balance.count) == ("fail", 1)
    assert balance.finding.endswith("1 more than were counted")


async def test_what_an_older_release_did_uncounted_is_counted_anew_as_the_readme_says(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """It knows of no tallies, and has deleted a task. The statement makes it balance, and hides no loss."""
    await _every_state(store, clock)
    assert await store.erase(Order("completed", clock())) is Deleted.GONE
    change(database, "DELETE FROM tasks WHERE id = 'failed'")
    assert [check.name for check in _failed(await auditor.report())] == ["balance"]

    change(database, _recount())

    report = await auditor.report()
    assert _failed(report) == []
    assert summed(report.facts)["removed"] == 2
    change(database, "DELETE FROM tasks WHERE id = 'waiting'")
    assert [check.name for check in _failed(await auditor.report())] == ["balance", "lost"]


def _recount() -> str:
    """The only SQL of the README."""
    [statement] = re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
    return str(statement)


async def test_what_is_removed_is_not_missed(auditor: Auditor, store: TaskStore, clock: FrozenClock) -> None:
    """Neither what is deleted by hand, nor what retention takes."""
    await _every_state(store, clock)
    assert await store.erase(Order("completed", clock())) is Deleted.GONE
    assert (await store.remove_old(["failed", "running"], before=clock() + 1)).rows == 1

    report = await auditor.report()

    assert _failed(report) == []
    assert summed(report.facts)["removed"] == 3


async def test_a_task_of_another_producer_is_accepted_at_its_claim(auditor: Auditor, store: TaskStore) -> None:
    """So it counts, once."""
    message = TaskMessage(id="theirs", action="resize")
    assert isinstance(await store.claim(message, "worker", LEASE, CHALLENGE), Claimed)
    await store.claim(message, "worker", LEASE, CHALLENGE)

    report = await auditor.report()

    assert (report.balanced, summed(report.facts)["accepted"]) == (True, 1)


@pytest.mark.parametrize("status", ["pending", "failed", "cancelled"])
async def test_a_task_that_has_left_its_end_is_named(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path, status: str
) -> None:
    """By the log of changes, which says how it ended."""
    await _every_state(store, clock)

    change(database, "UPDATE tasks SET status = ?, due_at = ? WHERE id = 'completed'", status, START + 10**6)

    left = _check(await auditor.report(), "left_the_end")
    assert (left.verdict, left.invariant, left.ids) == ("fail", "I2", ("completed",))


@pytest.mark.parametrize("status", ["running", "completed", "pending", "failed"])
async def test_a_change_after_the_end_is_named(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path, status: str
) -> None:
    """As a worker without a fence would leave it: the row looks right, and was written twice."""
    await _every_state(store, clock)

    change(
        database,
        "INSERT INTO changes (task_id, status, attempt, at) SELECT task_id, ?, attempt, at FROM changes "
        "WHERE task_id = 'completed' AND status = 'completed'",
        status,
    )

    after = _check(await auditor.report(), "change_after_the_end")
    assert (after.verdict, after.invariant, after.ids) == ("fail", "I2", ("completed",))


async def test_a_key_of_two_tasks_is_found(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """Also where the index that keeps keys apart is gone, without which it cannot be."""
    await _every_state(store, clock)
    for number in range(3):
        await store.add_once(a_payload(f"k{number}"), clock(), TaskOptions(), key=f"key {number}", fingerprint="f")
    assert _failed(await auditor.report()) == []

    change(database, "DROP INDEX ix_tasks_idempotency_key")
    change(database, "UPDATE tasks SET idempotency_key = 'key 0' WHERE id = 'k2'")

    doubled = _check(await auditor.report(), "double_keys")
    assert (doubled.verdict, doubled.invariant, doubled.count) == ("fail", "I4", 2)
    assert sorted(doubled.ids) == ["k0", "k2"]


async def test_claims_of_workers_that_are_gone_are_told_and_wait(
    auditor: Auditor, store: TaskStore, clock: FrozenClock
) -> None:
    """Their leases end, and a sweep finds them: nothing is wrong yet."""
    await _every_state(store, clock)

    gone = _check(await auditor.report(), "claims")
    await store.enter_worker("worker", START, 10, {})
    live = _check(await auditor.report(), "claims")

    assert (gone.verdict, gone.ids) == ("wait", ("running",))
    assert (live.verdict, live.finding) == ("pass", "1 run, all of workers that live")


async def test_queued_tasks_without_a_message_are_named(auditor: Auditor, store: TaskStore, clock: FrozenClock) -> None:
    """Once they have been queued for longer than the search for lost messages takes."""
    await _every_state(store, clock)
    assert _check(await auditor.report(), "messages").verdict == "pass"

    clock.advance(OVERDUE_MS / 1000 + 1)

    messages = _check(await auditor.report(), "messages")
    assert (messages.verdict, messages.invariant, messages.ids) == ("fail", "I1", ("queued",))


async def test_queued_tasks_whose_messages_are_there_are_not(store: TaskStore, clock: FrozenClock) -> None:
    """However long they wait: a backlog is honest."""
    broker = MemoryBroker()
    for number in range(3):
        payload = await queued(store, f"q{number}")
        await broker.publish([TaskMessage.of(payload, 0, START).encode()])
    clock.advance(86_400)

    assert _check(await Auditor(store, broker, clock, MAX_ATTEMPTS).report(), "messages").verdict == "pass"


async def test_messages_that_are_lost_behind_others_are_found_in_time(store: TaskStore, clock: FrozenClock) -> None:
    """Where the queue is not empty, younger messages have to come first: they are told, and named, and wait."""
    broker = MemoryBroker()
    payloads = [await queued(store, f"q{number}") for number in range(3)]
    await broker.publish([TaskMessage.of(payloads[0], 0, START).encode()])
    clock.advance(OVERDUE_MS / 1000 + 1)

    messages = _check(await Auditor(store, broker, clock, MAX_ATTEMPTS).report(), "messages")

    assert (messages.verdict, messages.count, messages.ids) == ("wait", 2, ("q0", "q1", "q2"))


async def test_without_the_broker_what_is_due_waits(store: TaskStore, clock: FrozenClock) -> None:
    """Nobody can hand it out, and that is no failure; what it holds is unknown."""
    await pending(store, "waiting", clock() - OVERDUE_MS - 1)

    report = await Auditor(store, AwayBroker(), clock, MAX_ATTEMPTS).report()

    overdue = _check(report, "overdue_waiting")
    assert (report.balanced, overdue.verdict, overdue.ids) == (True, "wait", ("waiting",))
    assert {_check(report, name).verdict for name in ("messages", "dead_letters")} == {"unknown"}


async def test_all_are_counted_and_a_hundred_named(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """The walk goes on over many chunks."""
    await store.add_all([(a_payload(f"{number:04}"), clock(), TaskOptions()) for number in range(1200)])
    change(database, "UPDATE tasks SET due_at = NULL WHERE id >= '0100'")

    found = _check(await auditor.report(), "pending_without_due_at")

    assert (found.count, len(found.ids), found.ids[0]) == (1100, 100, "0100")


async def test_damage_to_the_file_is_found_where_it_is_asked_for(
    auditor: Auditor, store: TaskStore, clock: FrozenClock, database: Path
) -> None:
    """SQLite reads the whole file for it."""
    await _every_state(store, clock)
    assert _check(await auditor.report(), "integrity").verdict == "unknown"
    assert _check(await auditor.report(integrity=True), "integrity").verdict == "pass"

    with closing(connect(database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', 'NULL') WHERE name = 'ix_tasks_due_at'"
        )
        connection.execute("PRAGMA schema_version = 1000")

    damage = _check(await auditor.report(integrity=True), "integrity")
    assert (damage.verdict, damage.invariant) == ("fail", "I7")
    assert "ix_tasks_due_at" in damage.finding


def _check(report: Report, name: str) -> Check:
    (check,) = [check for check in report.checks if check.name == name]
    return check


def _failed(report: Report) -> list[Check]:
    return [check for check in report.checks if check.verdict == "fail"]


async def _every_state(store: TaskStore, clock: FrozenClock) -> None:
    """Tasks of whatever the store knows, brought there by nothing but the store."""
    await pending(store, "waiting", START + LEASE)
    await store.add(a_payload("scheduled"), START + 10**6, TaskOptions(run_at=START + 10**6))
    await _running(store, clock, "retried")
    clock.advance(LEASE / 1000 + 1)
    await store.take_due(LEASE, MAX_ATTEMPTS, 10)
    await _settled(store, clock, "retried", TaskStatus.PENDING, AttemptOutcome.FAILED, attempt=1)
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED):
        await _settled(store, clock, status.value, status, AttemptOutcome(status.value))
    await _settled(store, clock, "again", TaskStatus.CANCELLED, AttemptOutcome.CANCELLED)
    await store.retry(Order("again", clock(), due_at=clock() + LEASE))
    await _settled(store, clock, "again", TaskStatus.COMPLETED, AttemptOutcome.COMPLETED, attempt=1)
    await _settled(store, clock, "handed back", TaskStatus.PENDING, AttemptOutcome.HANDED_BACK)
    await _settled(store, clock, "handed back", TaskStatus.FAILED, AttemptOutcome.TIMED_OUT, attempt=1)
    await pending(store, "called off", clock() + LEASE)
    await store.cancel(Order("called off", clock()))
    await pending(store, "called back", clock() + LEASE)
    await store.cancel(Order("called back", clock()))
    await store.retry(Order("called back", clock(), due_at=clock() + LEASE))
    await _settled(store, clock, "removed", TaskStatus.COMPLETED, AttemptOutcome.COMPLETED)
    await store.erase(Order("removed", clock()))
    await _running(store, clock, "running")
    await queued(store, "queued", clock())
    await pending(store, "new", clock() + LEASE)


async def _running(store: TaskStore, clock: FrozenClock, task_id: str) -> None:
    payload = await queued(store, task_id, clock())
    assert isinstance(await claim(store, payload), Claimed)


async def _settled(
    store: TaskStore, clock: FrozenClock, task_id: str, status: TaskStatus, outcome: AttemptOutcome, *, attempt: int = 0
) -> None:
    """A task whose attempt after `attempt` came to this."""
    known: Task | None = await store.find(task_id)
    payload = a_payload(task_id) if known else await queued(store, task_id, clock())
    claimed = await claim(store, payload, attempt)
    assert isinstance(claimed, Claimed)
    record = entry(claimed.attempt, started_at=clock(), ended_at=clock(), worker="worker", outcome=outcome, error=None)
    settlement = Settlement(
        task_id,
        claimed.attempt,
        status,
        result='"done"' if status is TaskStatus.COMPLETED else None,
        due_at=clock() + LEASE if status is TaskStatus.PENDING else None,
        now=clock(),
        handed_back=outcome is AttemptOutcome.HANDED_BACK,
        entry=record,
    )
    assert await store.settle(settlement)


def test_the_rows_are_of_the_store(database: Path) -> None:
    """The tallies are made by the migration."""
    assert rows(database, "SELECT name, tally FROM tallies ORDER BY name") == [("accepted", 0), ("removed", 0)]
