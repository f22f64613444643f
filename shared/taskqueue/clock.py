"""Time as a collaborator, so that tests and simulations can bring their own.

Instants inside the system are whole milliseconds since the Unix epoch; the HTTP contract shows whole seconds.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Answers the present instant in milliseconds since the Unix epoch."""

Elapsed = Callable[[], float]
"""Answers the seconds since some instant, and goes on evenly whatever the clock is set to."""


def system_clock() -> int:
    """The present instant of this machine, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def milliseconds(seconds: float) -> int:
    """A duration in whole milliseconds."""
    return round(seconds * 1000)
