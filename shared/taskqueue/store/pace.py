"""How many rows one commit should change, so that nobody else waits long for the writer."""

from typing import Final

HOLD_SECONDS: Final = 0.02
"""How long a chunk should take: its commit may come on top, and together they must stay below 50 ms."""


class Pace:
    """So many `rows` at once, by how long the last ones took."""

    least: Final = 10
    most: Final = 500

    def __init__(self) -> None:
        self.rows = self.least

    def note(self, rows: int, seconds: float) -> None:
        """Goes faster where there was time left, and slower where it was exceeded."""
        if seconds > HOLD_SECONDS:
            self.rows = max(self.least, self.rows // 2)
        elif seconds < HOLD_SECONDS / 4 and rows >= self.rows // 2:
            self.rows = min(self.most, self.rows * 2)
