"""Plays histories one after the other: `make simulate ARGS="--histories 10000 --seed 1"`. Exit code 1 if one is broken.

A broken one tells its seed and its last lines; `--seed N --histories 1` plays it again, exactly.
"""

import argparse
import logging
import sys
from time import monotonic

import structlog

from tests.simulation.database import Database
from tests.simulation.history import Outcome, run

MAX_REPORTS = 5


def main() -> int:
    """Plays, and tells what came of it."""
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    database = Database(arguments.database)
    begun = monotonic()
    broken: list[Outcome] = []
    tasks = faults = 0
    for seed in range(arguments.seed, arguments.seed + arguments.histories):
        outcome = run(seed, database)
        tasks += outcome.tasks
        faults += outcome.faults
        if outcome.broken is not None:
            broken.append(outcome)
            print(outcome.report(), flush=True)  # noqa: T201 - that is what it is for
        if len(broken) == MAX_REPORTS:
            break
    played = seed - arguments.seed + 1
    minutes = (monotonic() - begun) / 60
    print(  # noqa: T201
        f"{played} histories from seed {arguments.seed}: {tasks} tasks, {faults} faults, {len(broken)} broken; "
        f"{minutes:.1f} min, {played / minutes:.0f} a minute"
    )
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description="Plays histories of tasks, faults and processes.")
    parser.add_argument("--histories", type=int, default=1_000, help="how many (1,000)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first one; each has the next (1)")
    parser.add_argument("--database", default=":memory:", help="a SQLite file to play them on (in memory)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
