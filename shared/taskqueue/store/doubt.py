"""Whether this process's clock can tell that a lease has run out; and, where it cannot, whose workers are silent.

All leases run out at once for a process whose clock steps forward by more than one, or that slept with its machine:
those of live workers, too. From then on it does not go by its clock. It takes a worker for lost that has not renewed
a lease for as long as a challenge gives it, by a clock that nobody sets.
"""

from collections.abc import Mapping
from typing import Final

from taskqueue import events
from taskqueue.clock import Clock, Elapsed

JUMP_SECONDS: Final = 2.0
"""By so much the clock may differ from the time that went by: leases are longer, and renewed every second."""

SILENT_SECONDS: Final = 3.0


class Doubt:
    """What one process has seen of its clock, and of leases."""

    def __init__(self, clock: Clock, elapsed: Elapsed) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._ahead = self._how_far_ahead()
        self._holds = False
        self._seen: Mapping[str, tuple[int, float]] = {}

    def holds(self) -> bool:
        """Whether the clock has jumped ahead since this process began. It may be set back; what it told was wrong."""
        ahead, before = self._how_far_ahead(), self._ahead
        self._ahead = ahead
        if ahead - before > JUMP_SECONDS:
            self._holds = True
            events.emit(events.CLOCK_JUMPED, seconds=round(ahead - before))
        return self._holds

    def silent(self, expired: Mapping[str, int]) -> frozenset[str]:
        """Those tasks of `expired`, with the end of their lease, that have been so for a while, and not renewed."""
        now = self._elapsed()
        self._seen = {task_id: self._since(task_id, end, now) for task_id, end in expired.items()}
        return frozenset(task_id for task_id, (_, since) in self._seen.items() if now - since >= SILENT_SECONDS)

    def _since(self, task_id: str, end: int, now: float) -> tuple[int, float]:
        seen = self._seen.get(task_id)
        return seen if seen is not None and seen[0] == end else (end, now)

    def _how_far_ahead(self) -> float:
        return self._clock() / 1000 - self._elapsed()
