"""When a failed attempt is tried again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.retry import Backoff, next_due

DEFAULT = Backoff()
ATTEMPTS = st.integers(min_value=1, max_value=10_000)
DRAWS = st.floats(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (10, 256, 512), (11, 300, 600), (99, 300, 600)],
)
def test_the_wait_doubles_until_the_ceiling(attempt: int, shortest: float, longest: float) -> None:
    """From one second to ten minutes; the draw decides within the upper half."""
    assert DEFAULT.delay(attempt, 0) == shortest
    assert DEFAULT.delay(attempt, 1) == longest


@given(ATTEMPTS, DRAWS)
def test_the_wait_is_bounded(attempt: int, draw: float) -> None:
    """Never nothing, never over the ceiling, never infinite, whatever the attempt."""
    delay = DEFAULT.delay(attempt, draw)

    assert math.isfinite(delay)
    assert DEFAULT.first * (1 - DEFAULT.jitter) <= delay <= DEFAULT.ceiling


@given(ATTEMPTS, DRAWS)
def test_a_later_attempt_never_waits_less(attempt: int, draw: float) -> None:
    """With the same draw, waits only grow."""
    assert DEFAULT.delay(attempt, draw) <= DEFAULT.delay(attempt + 1, draw)


@given(ATTEMPTS, DRAWS, DRAWS)
def test_a_greater_draw_never_waits_less(attempt: int, one: float, other: float) -> None:
    """The draw spreads waits evenly over their range."""
    assert DEFAULT.delay(attempt, min(one, other)) <= DEFAULT.delay(attempt, max(one, other))


def test_without_jitter_every_wait_is_the_longest() -> None:
    """A jitter of 0 leaves nothing to the draw."""
    steady = Backoff(first=2, factor=3, ceiling=100, jitter=0)

    assert [steady.delay(attempt, draw=0.1) for attempt in (1, 2, 3, 4, 5)] == [2, 6, 18, 54, 100]


def test_tasks_that_failed_together_come_back_apart() -> None:
    """Of many that fail at one instant, no more than a few are due at the same one."""
    instants = [next_due(now=0, attempt=8, backoff=DEFAULT) for _ in range(1_000)]

    assert len(set(instants)) > 900
    assert min(instants) >= 64_000
    assert max(instants) <= 128_000


def test_the_next_instant_is_in_milliseconds_from_now() -> None:
    """A backoff is in seconds, an instant in whole milliseconds."""
    due = next_due(now=1_000_000, attempt=1, backoff=Backoff(first=1.5, jitter=0))

    assert due == 1_001_500
    assert isinstance(due, int)
