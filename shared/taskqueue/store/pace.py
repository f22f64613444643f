"""How many rows one commit should change, so that nobody else waits long for the writer."""

from typing import Final


class Pace:
    """So many `rows` at once, by how long the last ones took. A chunk should not take longer than `hold` (s)."""

    least: Final = 10
    most: Final = 500

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self.rows = self.least

    def note(self, rows: int, seconds: float) -> None:
        """Goes faster where there was time left, and slower where it was exceeded."""
        if seconds > self._hold:
            self.rows = max(self.least, self.rows // 2)
        elif seconds < self._hold / 4 and rows >= self.rows // 2:
            self.rows = min(self.most, self.rows * 2)
