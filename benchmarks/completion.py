"""Seeing through the store what is done: the same look for everybody, from outside, read-only."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.01
POLL_SHARE: Final = 0.03
"""The part of one core that looking may take."""


@dataclass(frozen=True)
class Layout:
    """How a contender's file says what is done."""

    finished_of: str
    finished: str
    undispatched: str


OURS: Final = Layout(
    # The plus keeps SQLite from walking every completed row in search of these: sqlite.org/optoverview.html.
    finished_of="SELECT id FROM tasks WHERE +status = 'completed' AND id IN (SELECT value FROM json_each(?))",
    # Rows are never deleted, and the unfinished ones are few: cheaper than counting a million finished ones.
    finished="SELECT (SELECT coalesce(max(rowid), 0) FROM tasks)"
    " - (SELECT count(*) FROM tasks WHERE status IN ('pending', 'queued', 'running'))",
    undispatched="SELECT count(*) FROM tasks WHERE status = 'pending'",
)
PEERS: Final = Layout(
    finished_of="SELECT id FROM results WHERE id IN (SELECT value FROM json_each(?))",
    finished="SELECT coalesce(max(rowid), 0) FROM results",
    undispatched="SELECT 0",
)
LAYOUTS: Final = {"ours": OURS, "peers": PEERS}


class Completion:
    """What a contender has finished, as its SQLite file says."""

    def __init__(self, database: Path, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    def finished_of(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are finished."""
        names = ",".join(f'"{each}"' for each in ids)
        return [row[0] for row in self._connection.execute(self._layout.finished_of, [f"[{names}]"])]

    def finished(self) -> int:
        """How many tasks are finished in all."""
        return self._count(self._layout.finished)

    def undispatched(self) -> int:
        """How many tasks were accepted and are not with the broker yet."""
        return self._count(self._layout.undispatched)

    def watch(self, until: int, within: float, check: Callable[[], None]) -> list[tuple[float, int]]:
        """Looks until so many are finished, or `within` seconds are over: instants (monotonic s) and counts.

        `check` is called at each look, and raises where there is nothing to wait for any more.
        """
        seen: list[tuple[float, int]] = []
        give_up = time.monotonic() + within
        while True:
            check()
            began = time.monotonic()
            seen.append((began, self.finished()))
            if seen[-1][1] >= until or began > give_up:
                return seen
            time.sleep(max(POLL_SECONDS, (time.monotonic() - began) / POLL_SHARE))

    def _count(self, query: str) -> int:
        count: int = self._connection.execute(query).fetchone()[0]
        return count

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        return read_only(self._database)


def read_only(database: Path) -> sqlite3.Connection:
    """A connection that cannot disturb the contender whose file it is."""
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10, isolation_level=None)


def make_results_file(database: Path) -> None:
    """The file that peers write their results to."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE results (id TEXT PRIMARY KEY, result TEXT NOT NULL, processed_at INTEGER NOT NULL)"
        )
