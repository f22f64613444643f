"""Two or more migrates at once are harmless, and a database that is locked ends the wait."""

import fcntl
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.errors import StoreUnreachable
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue_migrate.runner import is_at_head, upgrade

Process = subprocess.Popen[str]
Ended = subprocess.CompletedProcess[str]

PATIENCE_SECONDS = 0.3
BOUND_SECONDS = 5


def test_of_four_processes_at_once_one_works_and_all_succeed(
    database: Path, start: Callable[..., Process], end: Callable[[Process], Ended]
) -> None:
    """Every one exits 0, and exactly one found something to do."""
    ended = [end(process) for process in [start() for _ in range(4)]]

    assert [each.returncode for each in ended] == [0, 0, 0, 0]
    assert [[], *[[SCHEMA_REVISION]] * 3] == sorted(json.loads(each.stderr)["before"] for each in ended)
    assert is_at_head(database)


def test_of_four_threads_at_once_one_works_and_all_succeed(database: Path) -> None:
    """Embedded mode calls `upgrade` in a thread: in one process it is as harmless."""
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(upgrade, [database] * 4)) == [None] * 4

    assert is_at_head(database)


def test_threads_with_a_database_each_do_not_disturb_one_another(tmp_path: Path) -> None:
    """Alembic works on a global, and still each database gets its own schema."""
    databases = [tmp_path / f"{number}.db" for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(upgrade, databases))

    assert all(map(is_at_head, databases))


def test_a_migrate_that_waits_for_another_too_long_gives_up(database: Path) -> None:
    """While another holds the lock file, a run is refused with exit code 75 within its patience."""
    database.parent.mkdir()
    begun = time.monotonic()

    with database.with_name("tasks.db.migrate.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreUnreachable, match="another migrate") as refusal:
            upgrade(database, patience_seconds=PATIENCE_SECONDS)

    assert refusal.value.exit_code == 75
    assert PATIENCE_SECONDS <= time.monotonic() - begun < BOUND_SECONDS


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
def test_a_database_that_stays_locked_ends_the_wait(database: Path, journal_mode: str) -> None:
    """While another process holds SQLite's write lock, a run is refused with exit code 75 within its patience."""
    database.parent.mkdir()
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"PRAGMA journal_mode = {journal_mode}")
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()

        with pytest.raises(StoreUnreachable, match="database is locked") as refusal:
            upgrade(database, patience_seconds=PATIENCE_SECONDS)

    assert refusal.value.exit_code == 75
    assert time.monotonic() - begun < BOUND_SECONDS


def test_a_database_that_is_free_in_time_is_migrated(database: Path) -> None:
    """A short-lived write lock only delays a run."""
    database.parent.mkdir()
    with ThreadPoolExecutor(1) as threads, closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")
        run = threads.submit(upgrade, database)
        with pytest.raises(TimeoutError):
            run.result(timeout=PATIENCE_SECONDS)

        other.execute("COMMIT")
        run.result(timeout=BOUND_SECONDS)

    assert is_at_head(database)
