"""What happens by chance, all of it drawn from the seed: how long things take, and what goes wrong.

Each history draws first how likely each fault is in it, and many are not in it at all, since faults hide behind one
another (A. Groce et al., "Swarm Testing", ISSTA 2012).
"""

from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Final

CEILINGS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "commit refused": 0.15,
        "commit of unknown end": 0.05,
        "read refused": 0.05,
        "publish lost": 0.25,
        "confirm lost": 0.25,
        "published twice": 0.25,
        "delivery dropped": 0.15,
        "crash before commit": 0.04,
        "crash after commit": 0.06,
        "crash before publish": 0.06,
        "crash after publish": 0.06,
        "crash before ack": 0.06,
        "crash after ack": 0.06,
        "crash in handler": 0.08,
        "long wait": 0.05,
    }
)
"""How likely each fault is at most, each time it could happen."""

LONG_WAIT_SECONDS: Final = 9.0
"""Longer than a dispatcher has a task to itself, and than a broker has to confirm."""


class Chance:
    """The draws of one history. Once it is `calm`, nothing goes wrong any more.

    `harm` counts what went wrong.
    """

    def __init__(self, seed: int) -> None:
        self.draws = Random(seed)
        self.calm = False
        self.harm = 0
        self.rates = {
            fault: 0.0 if self.draws.random() < 0.5 else ceiling * self.draws.random() ** 2
            for fault, ceiling in CEILINGS.items()
        }

    def happens(self, fault: str) -> bool:
        """Whether this fault happens here and now."""
        rate = self.rates[fault]
        if rate == 0 or self.calm or self.draws.random() >= rate:
            return False
        self.harm += 1
        return True

    def latency(self) -> float:
        """How long (s) something takes that usually takes a moment."""
        if self.happens("long wait"):
            return LONG_WAIT_SECONDS * self.draws.random()
        return 0.0005 + 0.02 * self.draws.random() ** 3

    def between(self, least: float, most: float) -> float:
        """A number of this range."""
        return least + (most - least) * self.draws.random()

    def likely(self, probability: float) -> bool:
        """True with this probability, be it calm or not."""
        return self.draws.random() < probability
