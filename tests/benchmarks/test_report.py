"""The report of the benchmarks, where no measuring is needed."""

from pathlib import Path
from typing import Any

from benchmarks.report import BY_HAND, write_report

FACTS = {"title": "a peer", "kind": "peer"} | dict.fromkeys(
    ("api", "worker", "before_202", "message", "queue", "result"), "-"
)


def results(*rounds: float) -> dict[str, Any]:
    """What so many rounds measured."""
    return {
        "when": "now",
        "plan_name": "tiny",
        "plan": {"rounds": len(rounds)},
        "machine": {},
        "versions": {},
        "facts": {"peer": FACTS, "ours": FACTS | {"title": "ours", "kind": "ours"}},
        "core": {"peer": [{"post_per_s": 100.0}], "ours": [{"post_per_s": each} for each in rounds]},
    }


def test_a_rerun_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    """The analysis between the markers outlives new figures."""
    report = tmp_path / "report.md"
    write_report(results(1), report)
    before, by_hand, after = report.read_text().split(BY_HAND)
    report.write_text(BY_HAND.join([before, f"{by_hand}We lose at dawn.\n", after]))

    write_report(results(2), report)

    assert "We lose at dawn." in report.read_text()


def test_ours_are_shown_as_median_with_least_and_most_and_ratio(tmp_path: Path) -> None:
    """A cell says what several rounds measured, and how that compares with the best peer."""
    table = write_report(results(250, 210, 240), tmp_path / "report.md")

    assert "240 (210–250) **2.40×**" in table
