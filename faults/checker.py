"""The checker: judges what was asked and what is there, by nothing but data. It knows no system, and can be tested.

Its words are those of Jepsen's `total-queue`. *Lost*: accepted, or on disk with its answer lost, and not final in time.
*Recorded twice*: one request with two tasks, or one task with two endings. *Run twice* is legal after a crash, and is
counted. Everything else that must not be is *unexpected*.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from faults.asks import Ask
from faults.reading import Seen

MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Row:
    """A task in the database: every attempt that was ever claimed counts in `attempt`."""

    id: str
    status: str
    attempt: int
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Stored:
    """What is in the database, read without the services' own code. `finals` counts endings by task."""

    rows: Sequence[Row]
    finals: Mapping[str, int]
    integrity: str = "ok"
    wrongly_final: Sequence[str] = ()


@dataclass(frozen=True)
class Evidence:
    """All that is known after a round.

    Tasks as they were first seen final, and as they were seen later; the database; the log of runs (task and attempt,
    in order); the bytes that should be and that are in the dead-letter queue. Database and log hold what was asked
    `earlier`, too. `failures` are what the fault itself found to be wrong.
    """

    asks: Sequence[Ask]
    first: Mapping[str, Seen]
    later: Mapping[str, Seen]
    stored: Stored
    runs: Sequence[tuple[str, int]] = ()
    malformed: Sequence[bytes] = ()
    buried: Sequence[bytes] = ()
    failures: Sequence[str] = ()
    earlier: Sequence[Ask] = ()


@dataclass(frozen=True)
class Verdict:
    """Counts, and a sentence for each thing that must not be."""

    accepted: int
    unanswered: int
    lost: Sequence[str] = field(default=())
    twice: Sequence[str] = field(default=())
    run_twice: int = 0
    unexpected: Sequence[str] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether all that was promised was kept."""
        return not (self.lost or self.twice or self.unexpected)


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a round."""
    accepted = [ask for ask in evidence.asks if ask.accepted]
    recorded = [ask for ask in evidence.asks if ask.tasks]
    return Verdict(
        accepted=len(accepted),
        unanswered=len(evidence.asks) - len(accepted),
        lost=list(_lost(recorded, evidence)),
        twice=list(_twice(evidence)),
        run_twice=_run_twice(recorded, evidence),
        unexpected=[
            *evidence.failures,
            *(f"{ask.tag} was answered {status}" for ask in evidence.asks for status in ask.rejections),
            *_wrong_results(recorded, evidence.first),
            *_wrong_attempts(evidence),
            *_wrong_runs(recorded, evidence),
            *_wrong_store(evidence),
        ],
    )


def _lost(recorded: Sequence[Ask], evidence: Evidence) -> Iterator[str]:
    for ask in recorded:
        for task_id in ask.tasks:
            seen = evidence.first.get(task_id)
            was = "accepted" if task_id in ask.ids else "recorded without an answer"
            if seen is None:
                yield f"{task_id} ({ask.tag}) was {was}, and is not there"
            elif not seen.final:
                yield f"{task_id} ({ask.tag}) was {was}, and is still {seen.status}"


def _twice(evidence: Evidence) -> Iterator[str]:
    for ask in evidence.asks:
        if len(ask.ids) > 1:
            yield f"{ask.tag} was answered with {len(ask.ids)} ids: {', '.join(sorted(ask.ids))}"
    by_tag = Counter(tag for row in evidence.stored.rows for tag in row.tags)
    yield from (f"{tag} has {count} rows" for tag, count in by_tag.items() if count > 1)
    yield from (f"{task_id} ended {count} times" for task_id, count in evidence.stored.finals.items() if count > 1)
    for task_id, seen in evidence.first.items():
        if seen.final and (later := evidence.later.get(task_id)) != seen:
            yield f"{task_id} was final, and changed: from {seen} to {later}"


def _run_twice(recorded: Sequence[Ask], evidence: Evidence) -> int:
    runs = Counter(task_id for task_id, _ in evidence.runs)
    return sum(runs[task_id] > ask.runs for ask in recorded if ask.runs for task_id in ask.tasks)


def _wrong_results(recorded: Sequence[Ask], seen: Mapping[str, Seen]) -> Iterator[str]:
    for ask in recorded:
        for task_id in ask.tasks:
            if (found := seen.get(task_id)) is None or not found.final:
                continue
            if (found.status, found.result) != (ask.expected.status, ask.expected.result):
                yield f"{task_id} ({ask.tag}) ended {found.status} with {found.result!r}, and not as {ask.expected}"


def _wrong_attempts(evidence: Evidence) -> Iterator[str]:
    for task_id, seen in evidence.first.items():
        if seen.attempts > MAX_ATTEMPTS:
            yield f"{task_id} had {seen.attempts} attempts"
        if seen.final and seen.outcomes.count("completed") > 1:
            yield f"{task_id} completed more than one attempt: {seen.outcomes}"


def _wrong_runs(recorded: Sequence[Ask], evidence: Evidence) -> Iterator[str]:
    claimed = {row.id: row.attempt for row in evidence.stored.rows}
    for (task_id, attempt), count in Counter(evidence.runs).items():
        if count > 1:
            yield f"attempt {attempt} of {task_id} ran {count} times"
        if attempt > claimed.get(task_id, 0):
            yield f"attempt {attempt} of {task_id} ran, and is not in the database"
    ran = {task_id for task_id, _ in evidence.runs}
    for ask in recorded:
        for task_id in ask.tasks - ran if ask.runs else ():
            if task_id in evidence.first and evidence.first[task_id].final:
                yield f"{task_id} ({ask.tag}) has an outcome, and never ran"


def _wrong_store(evidence: Evidence) -> Iterator[str]:
    stored = evidence.stored
    if stored.integrity != "ok":
        yield f"the database is damaged: {stored.integrity}"
    yield from (f"{task_id} is final in the database, and still due or unended" for task_id in stored.wrongly_final)
    asks = [*evidence.asks, *evidence.earlier]
    asked = {ask.tag for ask in asks}
    known = {task_id for ask in asks for task_id in ask.ids}
    for row in stored.rows:
        if row.id not in known and not asked.intersection(row.tags):
            yield f"{row.id} is in the database, and nobody asked for it"
    missing = Counter(evidence.malformed) - Counter(evidence.buried)
    yield from (f"{body[:60]!r} is not among the dead letters" for body in missing)
    strange = Counter(evidence.buried) - Counter(evidence.malformed)
    yield from (f"{body[:200]!r} is among the dead letters" for body in strange)
