"""`docs/reliability.md` names tests, faults and failpoints that there are, and answers every row of the fault model."""

import re
from pathlib import Path

from faults.__main__ import ON_COMPOSE
from taskqueue.failpoints import POINTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
ROWS = {int(row[0]): row[1] for row in re.findall(r"^\| (\d+) \| .* \| (.*) \|$", TEXT, re.MULTILINE)}
FAULTS = 42


def test_every_test_that_is_named_is_there() -> None:
    """A renamed test must not leave a claim behind that nothing shows."""
    named = re.findall(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`", TEXT)

    assert named
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_every_fault_and_failpoint_that_is_named_is_there() -> None:
    """Those of the last column: `make faults` knows them, or the walk through the failpoints does."""
    faults = {fault.name for fault in ON_COMPOSE}
    shown = " ".join(ROWS.values())

    assert set(re.findall(r"\b(?:[a-z]+-)+[a-z]+\b", re.sub(r"`[^`]*`", "", shown))) <= faults
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", shown)) <= set(POINTS)


def test_every_row_of_the_fault_model_is_answered() -> None:
    """By a test or by a reason why not."""
    assert list(ROWS) == list(range(1, FAULTS + 1))
    assert all(ROWS.values())
