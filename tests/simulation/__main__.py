"""Plays histories one after the other: `make simulate ARGS="--histories 10000 --seed 1"`. Exit code 1 if one is broken.

A broken one tells its seed and its last lines; `--seed N --histories 1` plays it again, exactly.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from time import process_time
from typing import Final

import structlog

from tests.simulation.database import Database
from tests.simulation.history import Outcome, run

MAX_REPORTS: Final = 5


def main() -> int:
    """Plays, and tells what came of it: of all histories, or of those until Ctrl-C."""
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    played: list[Outcome] = []
    begun = process_time()
    with suppress(KeyboardInterrupt):
        played.extend(_outcomes(arguments))
    minutes = (process_time() - begun) / 60
    broken = [outcome for outcome in played if outcome.broken is not None]
    _tell(
        f"{len(played)} histories from seed {arguments.seed}: {sum(outcome.tasks for outcome in played)} tasks, "
        f"{sum(outcome.faults for outcome in played)} faults, {len(broken)} broken; "
        f"{minutes:.1f} min of processor time, {len(played) / minutes:.0f} histories in each"
    )
    return 1 if broken else 0


def _outcomes(arguments: argparse.Namespace) -> Iterator[Outcome]:
    database = Database(arguments.database)
    left = MAX_REPORTS
    for seed in range(arguments.seed, arguments.seed + arguments.histories):
        yield (outcome := run(seed, database))
        if outcome.broken is not None:
            _tell(outcome.report())
            left -= 1
        if left == 0:
            return


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - that is what it is for


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description="Plays histories of tasks, faults and processes.")
    parser.add_argument("--histories", type=int, default=1_000, help="how many (1,000)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first one; each has the next (1)")
    parser.add_argument("--database", default=":memory:", help="a SQLite file to play them on (in memory)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
