"""When a failed attempt is tried again: pure functions of the attempt and of now."""

import random
from dataclasses import dataclass

from taskqueue.clock import milliseconds


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with a ceiling. All durations are in seconds.

    Jitter spreads the retries of tasks that failed together: each delay is drawn from the upper `jitter` share of
    its range, so that it never falls to zero ("equal jitter", M. Brooker, AWS Architecture Blog, 2015).
    """

    first: float = 1.0
    factor: float = 2.0
    ceiling: float = 600.0
    jitter: float = 0.5

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1), for a `draw` from 0 to 1."""
        exponent = min(attempt - 1, 64)
        full = min(self.ceiling, self.first * self.factor**exponent)
        return full * (1 - self.jitter + self.jitter * draw)


def next_due(now: int, attempt: int, backoff: Backoff) -> int:
    """The instant (ms) at which a task whose attempt `attempt` failed at `now` (ms) is due again."""
    return now + milliseconds(backoff.delay(attempt, random.random()))  # noqa: S311 - jitter needs no secrecy
