"""Running it all: rounds in which every contender has its turn, then what is asked of ours alone."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.broker import RabbitMQ
from benchmarks.contenders.contender import Contender
from benchmarks.environments import Environments
from benchmarks.limits.measure import measure_limits
from benchmarks.neighbours import QUIET_PERCENT, wait_until_quiet, watch_neighbours
from benchmarks.plan import Plan
from benchmarks.progress import Progress
from benchmarks.scenarios.backlog import run_backlog
from benchmarks.scenarios.core import Figures, run_core
from benchmarks.scenarios.growth import run_growth
from benchmarks.scenarios.scaled import run_scaled
from benchmarks.stage import stage

OF_OURS_ALONE: Final[dict[str, Callable[[Contender, RabbitMQ, Path, Plan], Any]]] = {
    "growth": run_growth,
    "backlog": run_backlog,
    "scaled": run_scaled,
}
STEP_ERRORS: Final = (OSError, RuntimeError, TimeoutError)


@dataclass(frozen=True)
class Step:
    """One thing to measure, and where its figures belong."""

    title: str
    measure: Callable[[], Any]
    keep: Callable[[Any], None]


@dataclass(frozen=True)
class Bench:
    """Who takes part, with what, and where."""

    contenders: Sequence[Contender]
    environments: Environments
    broker: RabbitMQ
    work: Path
    plan: Plan

    def steps(self, scenarios: Sequence[str], results: dict[str, Any]) -> Sequence[Step]:
        """All that is to be measured, in order; the figures go into `results`."""
        results["plan"] = asdict(self.plan)
        steps = self._rounds(results) if "core" in scenarios else []
        ours = {each.name: each for each in self.contenders}.get("ours")
        for name, run in OF_OURS_ALONE.items():
            if name in scenarios and ours is not None:
                measure = partial(run, ours, self.broker, self.work, self.plan)
                steps.append(Step(name, measure, partial(results.__setitem__, name)))
        if "limits" in scenarios:
            measure = partial(measure_limits, self.environments, self.broker, self.work, self.plan)
            steps.append(Step("limits", measure, partial(results.__setitem__, "limits")))
        return steps

    def _rounds(self, results: dict[str, Any]) -> list[Step]:
        rounds: dict[str, list[Figures]] = {each.name: [] for each in self.contenders}
        results["core"] = rounds
        return [
            Step(f"round {number + 1}: {each.title}", partial(self._core, each), rounds[each.name].append)
            for number in range(self.plan.rounds)
            for each in self.contenders
        ]

    def _core(self, contender: Contender) -> Figures:
        """The turn that others on the machine disturbed least; the first that they left in peace is enough."""
        turns: list[Figures] = []
        while len(turns) <= self.plan.turns_again:
            turns.append(self._turn(contender))
            if turns[-1]["others_percent"] < QUIET_PERCENT:
                break
        return min(turns, key=lambda figures: figures["others_percent"])

    def _turn(self, contender: Contender) -> Figures:
        wait_until_quiet(self.plan.quiet_seconds)
        others_percent = watch_neighbours(self.broker.pid)
        with stage(contender, self.broker, self.work) as run:
            figures = run_core(run, self.plan)
        return figures | {"others_percent": others_percent()}


def run_steps(steps: Sequence[Step], progress: Progress, results: dict[str, Any], file: Path) -> None:
    """Measures, and keeps `results` in a file after each step, so that a run that is cut off is not lost."""
    for step in steps:
        with progress.step(step.title):
            try:
                step.keep(step.measure())
            except STEP_ERRORS as error:
                results.setdefault("failures", []).append(f"{step.title}: {error}")
                print(f"{step.title} failed: {error}", file=sys.stderr)
        file.write_text(json.dumps(results, indent=1))
