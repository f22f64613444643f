"""The lines that a run prints: one a fault, in the manner of Jepsen, and what was wrong below it."""

from collections.abc import Sequence
from typing import Final

from faults.rounds import Outcome

COLUMNS: Final = "{:>5} {:<20} {:>6} {:>8} {:>7} {:>9} {:>4} {:>14} {:>9} {:>10}  {}"
TITLES: Final = ("round", "fault", "held", "accepted", "p99", "no answer", "lost", "recorded twice", "run twice")
HEAD: Final = COLUMNS.format(*TITLES, "unexpected", "recovered in")


def line(outcome: Outcome) -> str:
    """One round on one line; what must not be is below it, a sentence each."""
    verdict, one = outcome.verdict, outcome.round
    row = COLUMNS.format(
        one.number,
        one.fault.name,
        f"{one.held:g} s",
        verdict.accepted,
        "-" if outcome.slow_answer is None else f"{outcome.slow_answer:.2f} s",
        verdict.unanswered,
        len(verdict.lost),
        len(verdict.twice),
        verdict.run_twice,
        len(verdict.unexpected),
        _recovered(outcome),
    )
    return "\n".join([row, *(f"      ! {sentence}" for sentence in _wrongs(outcome))])


def summary(outcomes: Sequence[Outcome], changed: Sequence[str], system: str, seed: int) -> str:
    """The end of a run: all rounds together."""
    verdicts = [outcome.verdict for outcome in outcomes]
    lost, twice, unexpected = (
        sum(len(getattr(verdict, name)) for verdict in verdicts) for name in ("lost", "twice", "unexpected")
    )
    counts = {
        "tasks accepted": sum(verdict.accepted for verdict in verdicts),
        "lost": lost,
        "recorded twice": twice + len(changed),
        "run twice": sum(verdict.run_twice for verdict in verdicts),
        "unexpected": unexpected,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    late = [outcome.round.fault.name for outcome in outcomes if _is_late(outcome)]
    idle = [outcome.round.fault.name for outcome in outcomes if not outcome.verdict.accepted]
    return "\n".join(
        [
            *(f"      ! {sentence}" for sentence in changed),
            f"{len(outcomes)} faults on {system}, seed {seed}: {told}",
            *([f"nothing was accepted, and so nothing shown: {', '.join(idle)}"] if idle else []),
            *([f"slower to recover than promised: {', '.join(late)}"] if late else []),
        ]
    )


def _recovered(outcome: Outcome) -> str:
    allowed = outcome.round.fault.allowed
    seconds = "-" if outcome.recovered is None else f"{outcome.recovered:.1f} s"
    promise = "" if allowed is None else f"(promised {allowed:g} s)"
    return " ".join(part for part in (seconds, promise, outcome.struck) if part)


def _is_late(outcome: Outcome) -> bool:
    allowed = outcome.round.fault.allowed
    return allowed is not None and outcome.recovered is not None and outcome.recovered > allowed


def _wrongs(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    return [*verdict.lost, *verdict.twice, *verdict.unexpected]
