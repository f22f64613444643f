"""How often each may ask: a bucket of tokens for each, filled at a steady rate, as one number (GCRA)."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

REMEMBERED: Final = 10_000
"""So many who asked are remembered. Whoever asked the longest ago is forgotten first, and so has a full bucket."""


class Pace:
    """So many requests a second for each, as many at once; 0 is no bound."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._slack = self._interval * (max(rate, 1) - 1)
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    @property
    def bounded(self) -> bool:
        """Whether anybody ever waits."""
        return self._interval > 0

    def wait(self, who: str) -> float:
        """0 where `who` may ask now, which counts; else the seconds to wait, and nothing is counted."""
        if not self.bounded:
            return 0.0
        now = self._clock()
        paid_until = max(self._paid_until.get(who, now), now)
        ahead = paid_until - now - self._slack
        if ahead > 0:
            return ahead
        self._paid_until[who] = paid_until + self._interval
        self._paid_until.move_to_end(who)
        if len(self._paid_until) > REMEMBERED:
            self._paid_until.popitem(last=False)
        return 0.0
