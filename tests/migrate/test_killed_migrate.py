"""Row 9 of the fault model: migrate is killed before each of its statements, and at each step; the next mends it."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from taskqueue import events
from taskqueue_migrate.runner import MIGRATIONS, is_at_head, upgrade
from tests.conftest import StartService

ROWS: Final = 3

_KILL_AT_EACH_STATEMENT: Final = """
import os, shutil, sys
from itertools import count
from pathlib import Path
from taskqueue import failpoints
from taskqueue_migrate.runner import upgrade

old, folder = Path(sys.argv[1]), Path(sys.argv[2])
for number in count(1):
    path = folder / f"{number}.db"
    shutil.copy(old, path)
    child = os.fork()
    if not child:
        failpoints.arm(f"migrate.statement=kill@{number}")
        upgrade(path)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status == 0:
        break
"""


@pytest.fixture(name="old")
def _old(tmp_path: Path) -> Path:
    """A database of the first revision, with rows."""
    first, path = tmp_path / "first", tmp_path / "old.db"
    shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("__pycache__", "000[2-9]*"))
    upgrade(path, migrations=first)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(ROWS):
            payload = json.dumps({"id": f"id-{number}", "action": "a", "data": {}, "created_at": 1})
            connection.execute(
                "INSERT INTO tasks (id, payload, created_at, accepted_at, due_at) VALUES (?, ?, 1, ?, 1)",
                (f"id-{number}", payload, number),
            )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.mark.timeout(300)
def test_before_each_statement(old: Path, tmp_path: Path) -> None:
    """Whichever it is: nothing of it is left, or all of it is; the next migrate brings the newest schema."""
    folder = tmp_path / "killed"
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", _KILL_AT_EACH_STATEMENT, str(old), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    *killed, last = (int(line) for line in ended.stdout.splitlines() if line.removeprefix("-").isdigit())

    assert last == 0
    assert set(killed) == {-signal.SIGKILL}
    assert len(killed) > 30  # the statements of all migrations since the first
    for number in range(1, len(killed) + 1):
        _is_mended(folder / f"{number}.db")


@pytest.mark.parametrize("point", ["locked", "upgraded", "committed"])
async def test_at_each_step(old: Path, migrate: Callable[..., Any], start_service: StartService, point: str) -> None:
    """Services refuse to start on what was killed before its commit; migrate again exits with 0."""
    url = f"sqlite:///{old}"
    ended = migrate(TASKQUEUE_FAILPOINTS=f"migrate.{point}=kill", TASKQUEUE_DATABASE_URL=url)
    assert ended.returncode == -signal.SIGKILL
    assert is_at_head(old) is (point == "committed")

    if point != "committed":
        service = start_service("taskqueue_api", DATABASE_URL=url, PORT=0)
        assert await service.ended() == 65
        assert service.reports(events.START_REFUSED)
    assert migrate(TASKQUEUE_DATABASE_URL=url).returncode == 0
    _is_mended(old)


def _is_mended(path: Path) -> None:
    upgrade(path)
    assert is_at_head(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert not [name for name in tables if name.startswith("_alembic")]
        assert connection.execute("SELECT id, action FROM tasks ORDER BY id").fetchall() == [
            (f"id-{number}", "a") for number in range(ROWS)
        ]
        assert connection.execute("SELECT tally FROM tallies ORDER BY name").fetchall() == [(ROWS,), (0,)]
