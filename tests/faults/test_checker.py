"""The checker of the fault runner can fail: whatever must not be is caught, and named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from faults.asks import Acceptance, Ask, Expected
from faults.checker import Evidence, Row, Stored, Verdict, judge
from faults.reading import Seen

RIGHT = {"output": 6}
ONE = "0c9a4a0e-2f0b-4a5e-bb7c-5f7f4a3f9f11"
OTHER = "1d1fbf36-7b32-4b0f-9a6e-2f6f1c7f2a07"
DONE = Seen("completed", RIGHT)
ALL_IS_WELL = Evidence(
    [Ask("round-1-0", b"{}", Expected("completed", RIGHT), "key", runs=1, accepted=[Acceptance(ONE, 1)])],
    first={ONE: DONE},
    later={ONE: DONE},
    stored=Stored([Row(ONE, "completed", 1, ["round-1-0"])], {ONE: 1}),
    runs=[(ONE, 1)],
)


def test_where_all_is_well_nothing_is_said() -> None:
    """One task, accepted, run once, completed once, and right."""
    assert judge(ALL_IS_WELL) == Verdict(accepted=1, unanswered=0, lost=[], twice=[], run_twice=0, unexpected=[])
    assert judge(ALL_IS_WELL).clean


@pytest.mark.parametrize("status", ["pending", "queued", "running"])
def test_a_task_that_never_becomes_final_is_lost(status: str) -> None:
    """Accepted is accepted: waiting for ever is a loss."""
    verdict = judge(replace(ALL_IS_WELL, first={ONE: Seen(status)}))

    assert verdict.lost == [f"{ONE} (round-1-0) was accepted, and is still {status}"]
    assert not verdict.clean


def test_a_task_that_is_not_there_is_lost() -> None:
    """The id of a 2xx is known to the API ever after."""
    verdict = judge(replace(ALL_IS_WELL, first={}, later={}))

    assert verdict.lost == [f"{ONE} (round-1-0) was accepted, and is not there"]
    assert not verdict.clean


def test_a_key_that_made_two_tasks_is_recorded_twice() -> None:
    """All answers to one key name one id."""
    [ask] = ALL_IS_WELL.asks
    twice = replace(ask, accepted=[Acceptance(ONE, 1), Acceptance(OTHER, 2)])
    seen = {ONE: DONE, OTHER: DONE}

    verdict = judge(replace(ALL_IS_WELL, asks=[twice], first=seen, later=seen, runs=[(ONE, 1), (OTHER, 1)]))

    assert verdict.twice == [f"round-1-0 was answered with 2 ids: {ONE}, {OTHER}"]
    assert not verdict.clean


def test_a_request_with_two_rows_is_recorded_twice_even_if_nobody_was_told() -> None:
    """A second row that no answer has named is found by its tag."""
    rows = [Row(ONE, "completed", 1, ["round-1-0"]), Row(OTHER, "completed", 1, ["round-1-0"])]

    verdict = judge(replace(ALL_IS_WELL, stored=Stored(rows, {ONE: 1, OTHER: 1})))

    assert verdict.twice == ["round-1-0 has 2 rows"]
    assert not verdict.clean


def test_a_task_that_ended_twice_is_recorded_twice() -> None:
    """The record of changes has one ending a task."""
    verdict = judge(replace(ALL_IS_WELL, stored=replace(ALL_IS_WELL.stored, finals={ONE: 2})))

    assert verdict.twice == [f"{ONE} ended 2 times"]
    assert not verdict.clean


@pytest.mark.parametrize("later", [
    {ONE: Seen("completed", {"output": 7})},
    {ONE: Seen("failed")},
    {},
])  # fmt: skip
def test_a_final_task_that_changes_is_recorded_twice(later: dict[str, Seen]) -> None:
    """Final is final: result, status and existence."""
    verdict = judge(replace(ALL_IS_WELL, later=later))

    assert len(verdict.twice) == 1
    assert verdict.twice[0].startswith(f"{ONE} was final, and changed")
    assert not verdict.clean


@pytest.mark.parametrize("seen", [Seen("completed", {"output": 7}), Seen("failed"), Seen("cancelled")])
def test_a_wrong_result_is_unexpected(seen: Seen) -> None:
    """Final is not enough: it must be the answer."""
    verdict = judge(replace(ALL_IS_WELL, first={ONE: seen}, later={ONE: seen}))

    assert len(verdict.unexpected) == 1
    assert verdict.unexpected[0].startswith(f"{ONE} (round-1-0) ended {seen.status}")
    assert not verdict.clean


def test_two_attempts_after_a_crash_are_counted_and_legal() -> None:
    """Handlers run at least once."""
    stored = Stored([Row(ONE, "completed", 2, ["round-1-0"])], {ONE: 1})

    verdict = judge(replace(ALL_IS_WELL, stored=stored, runs=[(ONE, 1), (ONE, 2)]))

    assert verdict.run_twice == 1
    assert verdict.clean


ROW = Row(ONE, "completed", 1, ["round-1-0"])
WRONGS: dict[str, dict[str, Any]] = {
    f"attempt 1 of {ONE} ran 2 times": {"runs": [(ONE, 1), (ONE, 1)]},
    f"attempt 2 of {ONE} ran, and is not in the database": {"runs": [(ONE, 1), (ONE, 2)]},
    f"{ONE} (round-1-0) has an outcome, and never ran": {"runs": []},
    "the database is damaged: row 3 missing": {"stored": Stored([ROW], {ONE: 1}, "row 3 missing")},
    f"{ONE} is final in the database, and still due or unended": {"stored": Stored([ROW], {ONE: 1}, "ok", [ONE])},
    f"{OTHER} is in the database, and nobody asked for it": {
        "stored": Stored([ROW, Row(OTHER, "completed", 1)], {ONE: 1})
    },
    "b'not JSON' is not among the dead letters": {"malformed": [b"not JSON"]},
    "b'{}' is among the dead letters": {"buried": [b"{}"]},
    "it ended with 1": {"failures": ["it ended with 1"]},
    "round-1-0 was answered 422": {"asks": [replace(ALL_IS_WELL.asks[0], rejections=[422])]},
}


@pytest.mark.parametrize("sentence", WRONGS)
def test_whatever_else_must_not_be_is_unexpected(sentence: str) -> None:
    """Runs, rows, dead letters and the fault's own findings, each by a sentence."""
    verdict = judge(replace(ALL_IS_WELL, **WRONGS[sentence]))

    assert verdict.unexpected == [sentence]
    assert not verdict.clean


@pytest.mark.parametrize(("seen", "complaint"), [
    (replace(DONE, attempts=6), "had 6 attempts"),
    (replace(DONE, outcomes=("completed", "completed")), "completed more than one attempt"),
])  # fmt: skip
def test_attempts_are_held_to_their_limits(seen: Seen, complaint: str) -> None:
    """At most five, and one of them at most completed."""
    verdict = judge(replace(ALL_IS_WELL, first={ONE: seen}, later={ONE: seen}))

    assert len(verdict.unexpected) == 1
    assert complaint in verdict.unexpected[0]


def test_a_request_without_an_answer_promises_nothing() -> None:
    """It may have made a task, or not; it may not have made two."""
    unanswered = Ask("round-1-1", b"{}", Expected("completed"))
    rows: Callable[[int], list[Row]] = lambda count: [Row(f"row-{n}", "queued", 0, ["round-1-1"]) for n in range(count)]  # noqa: E731

    verdicts = [
        judge(Evidence([unanswered], {}, {}, Stored(rows(count), {}))) for count in (0, 1, 2)
    ]  # fmt: skip

    assert [verdict.clean for verdict in verdicts] == [True, True, False]
    assert [verdict.unanswered for verdict in verdicts] == [1, 1, 1]


@pytest.mark.parametrize(("seen", "complaint"), [
    ({ONE: DONE}, ""),
    ({ONE: Seen("queued")}, f"{ONE} (round-1-1) was recorded without an answer, and is still queued"),
    ({}, f"{ONE} (round-1-1) was recorded without an answer, and is not there"),
    ({ONE: Seen("completed", {"output": 7})}, f"{ONE} (round-1-1) ended completed with {{'output': 7}}, and not as "),
])  # fmt: skip
def test_what_is_on_disk_must_end_though_its_answer_was_lost(seen: dict[str, Seen], complaint: str) -> None:
    """The client was promised nothing; but what is recorded is held to all that was promised of tasks."""
    ask = Ask("round-1-1", b"{}", Expected("completed", RIGHT), runs=1, unnamed={ONE})

    verdict = judge(Evidence([ask], seen, seen, Stored([Row(ONE, "", 1, ["round-1-1"])], {}), [(ONE, 1)]))

    told = [*verdict.lost, *verdict.unexpected]
    assert (verdict.accepted, verdict.unanswered) == (0, 1)
    assert verdict.clean == (not complaint)
    assert [sentence.startswith(complaint) for sentence in told] == ([True] if complaint else [])
