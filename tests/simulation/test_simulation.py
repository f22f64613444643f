"""Some hundred histories of the simulation; and it would notice: each mutant is caught, each seed tells one story."""

import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.simulation.database import Database
from tests.simulation.history import run
from tests.simulation.mutants import MUTANTS

HISTORIES = 300
SECONDS = 20.0
"""A slow machine plays fewer of them."""

MUTANT_HISTORIES = 500
REPEATED = 10
FAILURES = ("no process fails by itself", "nothing is complained of", "no message of ours is buried")
"""What a mutant that is ill made brings about, and no rule has noticed."""


@pytest.fixture(scope="module")
def simulated() -> Database:
    """A database for all histories."""
    return Database()


def test_no_history_breaks_a_promise(simulated: Database) -> None:
    """Whatever is lost, doubled, late, refused, stalled or killed: each accepted task ends once, and rightly."""
    until = monotonic() + SECONDS
    played = tasks = faults = 0
    for seed in range(HISTORIES):
        outcome = run(seed, simulated)
        assert outcome.broken is None, outcome.report()
        played, tasks, faults = played + 1, tasks + outcome.tasks, faults + outcome.faults
        if monotonic() > until:
            break
    assert tasks > 2 * played
    assert faults > 5 * played


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_guard_is_noticed(simulated: Database, mutant: str) -> None:
    """Within some hundred histories, of which the first one that is broken tells its seed and its story."""
    with MUTANTS[mutant]():
        outcome = next(
            (outcome for seed in range(MUTANT_HISTORIES) if (outcome := run(seed, simulated)).broken is not None), None
        )
    assert outcome is not None, "nobody has noticed"
    assert outcome.broken is not None
    assert not outcome.broken.startswith(FAILURES), "it fails by itself: that shows nothing"
    assert f"seed {outcome.seed}: " in outcome.report()
    assert outcome.story


def test_a_seed_tells_one_story(simulated: Database, digests_elsewhere: dict[int, str]) -> None:
    """The same to the last line, in another process, too, where sets of texts have another order."""
    here = {seed: run(seed, simulated).digest for seed in reversed(range(REPEATED))}

    assert here == {seed: run(seed, simulated).digest for seed in range(REPEATED)}
    assert here == digests_elsewhere
    assert len(set(here.values())) == REPEATED


@pytest.fixture
def digests_elsewhere() -> dict[int, str]:
    """What another process makes of the same seeds."""
    program = (
        "from tests.simulation.database import Database; from tests.simulation.history import run; "
        f"database = Database(); print(*(run(seed, database).digest for seed in range({REPEATED})))"
    )
    root = Path(__file__).parents[2]
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(["", *sys.path]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(enumerate(done.stdout.split()[-REPEATED:]))
