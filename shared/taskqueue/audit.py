"""The auditor: whether every accepted task is where it must be, and nothing happened that must not.

It holds the store against the tallies of what was accepted, against the broker, and against the workers that live:

    I1  every accepted task has a row, and comes to an end
    I2  a final status never changes, but by hand
    I3  only the current attempt records, and only once
    I4  of one idempotency key there is one task
    I5  what nobody can read is kept in the dead-letter queue
    I6  no task is attempted more often than it may be
    I7  the file is sound, and holds what it should

Nothing is changed by it, and a busy system balances at every instant: each fact is read at one instant, and what takes
its time by design (a worker that died, a broker that is away) is told as `wait`, not as a failure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from taskqueue.broker.contract import Broker, Holdings
from taskqueue.clock import Clock
from taskqueue.errors import BrokerUnavailable
from taskqueue.schema import FINAL, TaskStatus
from taskqueue.store.audit import Claims, Found, Totals
from taskqueue.store.doors.auditing import Auditing
from taskqueue.store.flaws import FLAWS
from taskqueue.store.trail import Trail

OVERDUE_MS: Final = 60_000
"""A sweep takes what is due within a second or two, and finds a lost message within a minute."""

LONGEST_LEASE_MS: Final = 86_400_000 + OVERDUE_MS
"""A lease may be a day at most, by the settings."""

Verdict = Literal["pass", "wait", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """What one check found: so many tasks, of which at most 100 are named."""

    name: str
    invariant: str
    verdict: Verdict
    finding: str
    count: int = 0
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Facts:
    """All that was read. `holdings` is None where the broker tells nothing, `damage` where nobody asked for it."""

    totals: Totals
    claims: Claims
    flaws: Mapping[str, Found]
    trail: Trail
    double_keys: Found
    queued_long: Found
    holdings: Holdings | None
    damage: Sequence[str] | None = None


@dataclass(frozen=True)
class Report:
    """What an audit at `taken_at` (ms) found."""

    taken_at: int
    facts: Facts
    checks: Sequence[Check] = field(default_factory=tuple)

    @property
    def balanced(self) -> bool:
        """Whether no check failed."""
        return all(check.verdict != "fail" for check in self.checks)


class Auditor:
    """Audits one store and its broker. `max_attempts` has held since the auditor was made."""

    def __init__(self, store: Auditing, broker: Broker, clock: Clock, max_attempts: int) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._max_attempts = max_attempts
        self._since = clock()

    async def report(self, *, integrity: bool = False) -> Report:
        """Reads everything, and judges. Raises StoreError where the store cannot be read."""
        now = self._clock()
        # The broker first: what has a message now may be done by the time the store is read, and not the reverse.
        holdings = await self._holdings()
        store = self._store
        facts = Facts(
            queued_long=await store.queued_before(now - OVERDUE_MS),
            totals=await store.totals(now),
            claims=await store.claims(now),
            flaws=await store.flaws(self._parameters(now)),
            trail=await store.trail(),
            double_keys=await store.double_keys(),
            holdings=holdings,
            damage=await store.damage() if integrity else None,
        )
        return Report(now, facts, tuple(judged(facts)))

    async def _holdings(self) -> Holdings | None:
        try:
            return await self._broker.holdings()
        except BrokerUnavailable:
            return None

    def _parameters(self, now: int) -> Mapping[str, int]:
        return {
            "now": now,
            "overdue_since": now - OVERDUE_MS,
            "longest_lease": LONGEST_LEASE_MS,
            "max_attempts": self._max_attempts,
            "max_attempts_since": self._since * 1000,
        }


def judged(facts: Facts) -> Iterator[Check]:
    """Every check, in the order of the invariants as far as they are about rows."""
    yield _balance(facts.totals)
    trail = facts.trail
    yield _none("lost", "I1", "was accepted and has not ended, and its row is gone", _these(trail.gone))
    yield _claims(facts.claims)
    yield _queue(facts)
    yield from _flaws(facts)
    yield _none("left_the_end", "I2", "was final, and is something else now", _these(list(trail.left_the_end)))
    yield _none("change_after_the_end", "I2", "changed after its end, not by hand", _these(list(trail.after_the_end)))
    yield _none("double_keys", "I4", "shares its idempotency key with another task", facts.double_keys)
    yield _dead_letters(facts.holdings)
    yield _integrity(facts.damage)


def _balance(totals: Totals) -> Check:
    missing = totals.accepted - totals.removed - totals.rows
    sums = f"{totals.accepted} accepted, {totals.removed} removed, {totals.rows} there"
    if missing == 0:
        return Check("balance", "I1", "pass", sums)
    told = f"{missing} missing" if missing > 0 else f"{-missing} more than were counted"
    return Check("balance", "I1", "fail", f"{sums}: {told}", abs(missing))


def _claims(claims: Claims) -> Check:
    gone = claims.gone
    if not gone.count:
        return Check("claims", "I1", "pass", f"{claims.live} run, all of workers that live")
    finding = f"{gone.count} run at workers that are gone, and fall due when their leases end"
    return Check("claims", "I1", "wait", finding, gone.count, tuple(gone.ids))


def _queue(facts: Facts) -> Check:
    """Whether queued tasks have messages. Those that a consumer holds are told by the broker, or else estimated."""
    long, holdings = facts.queued_long, facts.holdings
    if holdings is None:
        return Check("messages", "I1", "unknown", "the broker does not tell what it holds")
    told = holdings.unacknowledged is not None
    at_consumers = holdings.unacknowledged if holdings.unacknowledged is not None else facts.claims.concurrency
    without = max(0, long.count - holdings.ready - at_consumers)
    if not without:
        kind = "" if told else " at most"
        return Check("messages", "I1", "pass", f"{holdings.ready} wait, {at_consumers}{kind} are at consumers")
    if holdings.ready:
        finding = f"{without} queued tasks have lost their message, and are found when younger messages arrive"
        return Check("messages", "I1", "wait", finding, without, tuple(long.ids))
    finding = f"{without} of {long.count} tasks have been queued for long, and have no message"
    return Check("messages", "I1", "fail", finding, without, tuple(long.ids))


def _flaws(facts: Facts) -> Iterator[Check]:
    for flaw in FLAWS:
        found = facts.flaws[flaw.name]
        # Without the broker nothing is handed out, and workers go around it as they have room.
        waits = flaw.name == "overdue_waiting" and facts.holdings is None
        yield _none(flaw.name, flaw.invariant, flaw.finding, found, otherwise="wait" if waits else "fail")


def _none(name: str, invariant: str, finding: str, found: Found, otherwise: Verdict = "fail") -> Check:
    if not found.count:
        return Check(name, invariant, "pass", f"no task {finding}")
    return Check(name, invariant, otherwise, f"{found.count} × {finding}", found.count, tuple(found.ids))


def _these(ids: Sequence[str]) -> Found:
    found = Found()
    found.add(len(ids), ids)
    return found


def _dead_letters(holdings: Holdings | None) -> Check:
    if holdings is None:
        return Check("dead_letters", "I5", "unknown", "the broker does not tell what it holds")
    return Check("dead_letters", "I5", "pass", f"{holdings.dead} messages that nobody could take up are kept")


def _integrity(damage: Sequence[str] | None) -> Check:
    if damage is None:
        return Check("integrity", "I7", "unknown", "not asked for, since it reads the whole file: ?integrity=1")
    if not damage:
        return Check("integrity", "I7", "pass", "SQLite finds the file sound")
    return Check("integrity", "I7", "fail", "; ".join(damage)[:1000], len(damage))


def summed(facts: Facts) -> Mapping[str, int]:
    """What became of all that was accepted: the members but the first add up to it."""
    by_status = facts.totals.by_status
    final = {status.value: by_status.get(status, 0) for status in TaskStatus if status in FINAL}
    waiting = by_status.get(TaskStatus.PENDING, 0) + by_status.get(TaskStatus.QUEUED, 0) - facts.totals.scheduled
    running = by_status.get(TaskStatus.RUNNING, 0)
    return {
        "accepted": facts.totals.accepted,
        **final,
        "waiting": waiting,
        "running": running,
        "scheduled": facts.totals.scheduled,
        "removed": facts.totals.removed,
    }
