"""A migration that fails, or whose process dies, leaves the database as it was."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.errors import MigrationFailed, StoreUnreachable
from taskqueue.store.tables import metadata
from taskqueue_migrate.runner import is_at_head, upgrade

AddMigration = Callable[[str], Path]
Process = subprocess.Popen[str]
Start = Callable[..., Process]
Migrate = Callable[..., subprocess.CompletedProcess[str]]

HALF = (
    "op.add_column('tasks', sa.Column('half', sa.Text()))\n"
    "    with op.batch_alter_table('tasks', recreate='always') as batch:\n"
    "        batch.add_column(sa.Column('other_half', sa.Text()))\n"
    "    op.execute(\"UPDATE tasks SET payload = 'spoilt'\")\n"
)
SECONDS_TO_BEGIN = 30


@pytest.mark.parametrize("fault", ["raise RuntimeError('half-way')", "op.execute('SELECT * FROM nowhere')"])
def test_a_migration_that_fails_half_way_leaves_the_file_as_it_was(
    database: Path, add_migration: AddMigration, fault: str
) -> None:
    """Columns, a rebuilt table and changed rows are all undone: not a byte of the database differs."""
    upgrade(database)
    _add_task(database)
    before = database.read_bytes()
    broken = add_migration(f"{HALF}    {fault}")

    with pytest.raises(MigrationFailed):
        upgrade(database, migrations=broken)

    assert before == database.read_bytes()
    assert is_at_head(database)


def test_the_next_run_after_a_failed_one_succeeds(database: Path, add_migration: AddMigration) -> None:
    """With its fault mended, the same migration runs over the same file, and keeps its rows."""
    upgrade(database)
    _add_task(database)
    with pytest.raises(MigrationFailed, match="half-way"):
        upgrade(database, migrations=add_migration(f"{HALF}    raise RuntimeError('half-way')"))

    mended = add_migration(HALF)
    upgrade(database, migrations=mended)

    assert is_at_head(database, migrations=mended)
    assert _rows(database, "SELECT id, payload, half, other_half FROM tasks") == [("a", "spoilt", None, None)]


def test_a_first_run_that_fails_makes_no_table(database: Path, add_migration: AddMigration) -> None:
    """All migrations of a run are one transaction: where the second fails, the first is undone too."""
    with pytest.raises(MigrationFailed):
        upgrade(database, migrations=add_migration(f"{HALF}    raise RuntimeError('half-way')"))

    assert _rows(database, "SELECT name FROM sqlite_master") == []
    upgrade(database)
    assert is_at_head(database)


def test_a_table_that_is_already_there_is_left_alone(database: Path) -> None:
    """A `tasks` table that no migration made is neither taken over nor harmed."""
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE tasks (id TEXT)")

    with pytest.raises(MigrationFailed, match="the schema is as it was: table tasks already exists"):
        upgrade(database)

    assert _rows(database, "SELECT name FROM sqlite_master") == [("tasks",)]


def test_a_killed_migration_is_undone_and_runs_again(
    database: Path, tmp_path: Path, add_migration: AddMigration, start: Start, migrate: Migrate
) -> None:
    """After kill -9 amid a migration, with its pages already in the log, nothing of it stays and no lock is left."""
    endless = add_migration(
        "op.execute('PRAGMA cache_size = 1')\n    op.create_table('half', sa.Column('id', sa.Text()))\n"
        "    for _ in range(200): op.execute('INSERT INTO half VALUES (hex(randomblob(4000)))')\n"
        "    pathlib.Path('begun').touch()\n    time.sleep(600)"
    )
    victim = _start_upgrade(start, database, endless)
    _wait_for(tmp_path / "begun")
    assert database.with_name("tasks.db-wal").stat().st_size > 0
    with pytest.raises(StoreUnreachable, match="another migrate"):
        upgrade(database, patience_seconds=0.2)

    victim.kill()
    victim.wait(timeout=SECONDS_TO_BEGIN)
    ended = migrate()

    assert ended.returncode == 0
    tables = [str(name) for (name,) in _rows(database, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert sorted(set(tables) - {"sqlite_sequence"}) == sorted(["alembic_version", *metadata.tables])
    assert _rows(database, "PRAGMA integrity_check") == [("ok",)]


def _start_upgrade(start: Start, database: Path, migrations: Path) -> Process:
    script = (
        "import pathlib, sys\nfrom taskqueue_migrate.runner import upgrade\n"
        "upgrade(pathlib.Path(sys.argv[1]), migrations=pathlib.Path(sys.argv[2]))"
    )
    return start(str(database), str(migrations), command=(sys.executable, "-c", script))


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)


def _add_task(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO tasks (id, payload, created_at, accepted_at) VALUES ('a', '{}', 1, 1)")


def _rows(database: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.execute(question))
