"""What the log of changes tells that rows do not: a change after the end, and a task that is gone."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from taskqueue.schema import FINAL, LEGAL_TRANSITIONS, TaskStatus

ENDS_REMEMBERED: Final = 100_000
"""So many of the last ends are known at once: what comes after an older one is found by its row, if at all."""


_End = tuple[str, int, int | None]
"""The status, the attempt, and when the task was accepted (µs): one that was deleted may have come again."""


@dataclass
class Trail:
    """Follows changes in their order. Ids, each once."""

    after_the_end: dict[str, None] = field(default_factory=dict)
    """A change came after a final one, and was no retry by hand."""

    left_the_end: dict[str, None] = field(default_factory=dict)
    """The row is not what a final change made it, and no retry by hand is known of."""

    _open: dict[str, None] = field(default_factory=dict)
    _ends: dict[str, _End] = field(default_factory=dict)

    @property
    def gone(self) -> list[str]:
        """Tasks that never ended, and have no row: nobody removes those."""
        return list(self._open)

    def follow(self, rows: Iterable[Any]) -> None:
        """The next changes, as `audit` selects them."""
        for _, task_id, status, attempt, has_no_row, has_left, accepted_at in rows:
            if has_left:
                self.left_the_end[task_id] = None
            if has_no_row and status not in FINAL:
                self._open[task_id] = None
            elif self._open:
                self._open.pop(task_id, None)
            end = self._ends.pop(task_id, None)
            if end is not None and end[2] == accepted_at and not _by_hand(end, status, attempt):
                self.after_the_end[task_id] = None
            if status in FINAL:
                self._remember(task_id, (status, attempt, accepted_at))

    def _remember(self, task_id: str, end: _End) -> None:
        self._ends[task_id] = end
        if len(self._ends) > ENDS_REMEMBERED:
            del self._ends[next(iter(self._ends))]


def _by_hand(end: _End, status: str, attempt: int) -> bool:
    """Whether this change is a retry by hand of what ended so."""
    may_go_on = TaskStatus.PENDING in LEGAL_TRANSITIONS[TaskStatus(end[0])]
    return may_go_on and status == TaskStatus.PENDING and attempt == end[1]
