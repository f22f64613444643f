"""What happened in a history, one line each: to be read when it went wrong, and to be compared by its hash."""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from tests.simulation.loop import LANE


class Trace:
    """The lines, each with its time and the lane in which it happened. What comes after it has `ended` is left out."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.ended = False
        self._lines: list[tuple[float, str, str, tuple[object, ...]]] = []

    def note(self, happening: str, *details: object) -> None:
        """Something has happened, here and now."""
        if self.ended:
            return
        lane = LANE.get(None)
        self._lines.append((self._time(), lane.name if lane else "", happening, details))

    @property
    def lines(self) -> Sequence[str]:
        """The lines as text."""
        return [
            f"{at:10.4f}  {lane:<10}  {happening} {' '.join(str(detail) for detail in details)}".rstrip()
            for at, lane, happening, details in self._lines
        ]

    def about(self, task_id: str | None, last: int) -> Sequence[str]:
        """The last lines that tell of a task, or that tell of none."""
        others = "-4"  # of a uuid4
        told = [line for line in self.lines if (task_id and task_id in line) or others not in line]
        return told[-last:]

    @property
    def digest(self) -> str:
        """The same for the same lines."""
        digest = blake2b(digest_size=16)
        for line in self._lines:
            digest.update(repr(line).encode())
        return digest.hexdigest()
