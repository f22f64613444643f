"""Which faults come when: drawn by a seed alone, so that the same seed brings the same faults in the same order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faults.scene import Scene


class Recovery(Enum):
    """What counts as recovered, and from when it is counted."""

    DONE = "healed, until all that was asked before is done"
    BEGUN = "struck, until all that was accepted before has begun"
    RERUN = "struck, until all that it cut off runs again"
    DELIVERED = "healed, until a message is delivered"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `happening` strikes when it is entered, and heals when it is left.

    It lasts between `least` and `most` seconds. `allowed` are the seconds in which issue and README promise recovery.
    """

    name: str
    happening: "Callable[[Scene[Any]], AbstractContextManager[None]]"
    least: float = 3
    most: float = 6
    recovery: Recovery = Recovery.DONE
    allowed: float | None = None


@dataclass(frozen=True)
class Round:
    """One fault at its turn; `seed` decides all that is left to chance in it."""

    number: int
    fault: Fault
    held: float
    seed: int


def schedule(faults: Sequence[Fault], seed: int) -> Iterator[Round]:
    """Rounds without end: every fault once, in an order by chance, and then all over again in another one."""
    random = Random(seed)
    number = 0
    while True:
        for fault in random.sample(faults, len(faults)):
            number += 1
            yield Round(number, fault, round(random.uniform(fault.least, fault.most), 1), random.randrange(2**32))
