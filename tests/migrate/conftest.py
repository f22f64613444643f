"""A database file of its own for each test, and the ways to migrate it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqueue.store.sqlite import use_bundled_sqlite
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue_migrate.runner import MIGRATIONS

use_bundled_sqlite()  # before a test module imports sqlite3

COMMAND = (sys.executable, "-m", "taskqueue_migrate")
SECONDS_TO_END = 60

Process = subprocess.Popen[str]
Ended = subprocess.CompletedProcess[str]


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tasks.db"


@pytest.fixture(name="start")
def _start(database: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a migrate process with the settings given, and with those alone; none outlives its test."""
    started: list[Process] = []

    def start(*arguments: str, command: tuple[str, ...] = COMMAND, **settings: str) -> Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
        ours = {"TASKQUEUE_DATABASE_URL": f"sqlite:///{database}", "PYTHONWARNINGS": "error"}
        process = subprocess.Popen(
            [*command, *arguments],
            env=inherited | ours | settings,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(name="end")
def _end() -> Callable[[Process], Ended]:
    def end(process: Process) -> Ended:
        output, log = process.communicate(timeout=SECONDS_TO_END)
        return subprocess.CompletedProcess(process.args, process.returncode, output, log)

    return end


@pytest.fixture(name="migrate")
def _migrate(start: Callable[..., Process], end: Callable[[Process], Ended]) -> Callable[..., Ended]:
    """Runs a migrate process to its end."""

    def migrate(*arguments: str, **options: Any) -> Ended:
        return end(start(*arguments, **options))

    return migrate


@pytest.fixture(name="add_migration")
def _add_migration(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a revision 9999 with the given body of `upgrade` after the real ones, in a copy of their folder."""

    def add(body: str) -> Path:
        folder = tmp_path / "100 %s of them"
        shutil.copytree(MIGRATIONS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9999_try.py").write_text(
            "import pathlib, time\nimport sqlalchemy as sa\nfrom alembic import op\n"
            f"revision, down_revision = '9999', '{SCHEMA_REVISION}'\n"
            f"def upgrade():\n    {body}\n"
        )
        return folder

    return add
