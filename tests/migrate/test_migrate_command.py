"""What an operator sees of `python -m taskqueue_migrate` where all is well."""

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.clock import system_clock
from taskqueue.store.sharing import alone_with
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.tasks import open_store

Migrate = Callable[..., subprocess.CompletedProcess[str]]


def test_a_fresh_database_is_brought_to_the_newest_revision(database: Path, migrate: Migrate) -> None:
    """The first run makes folder, file and schema, says so in one line, and exits 0."""
    ended = migrate()

    assert (ended.returncode, ended.stdout) == (0, "")
    entry = json.loads(ended.stderr)
    assert (entry["name"], entry["before"], entry["after"]) == ("schema_made", [], [SCHEMA_REVISION])
    assert {"alembic_version", "tasks"} <= set(_ask(database, "SELECT name FROM sqlite_master WHERE type = 'table'"))


def test_a_folder_that_is_made_is_for_its_owner_alone(tmp_path: Path, migrate: Migrate) -> None:
    """Other users of the machine read no tasks, whoever makes it: migrate, or embedded mode for its lock."""
    ended = migrate(TASKQUEUE_DATABASE_URL=f"sqlite:///{tmp_path}/migrated/tasks.db")
    with alone_with(tmp_path / "embedded" / "tasks.db"):
        pass

    assert ended.returncode == 0
    modes = {folder: stat.S_IMODE((tmp_path / folder).stat().st_mode) for folder in ("migrated", "embedded")}
    assert modes == {"migrated": 0o700, "embedded": 0o700}


def test_a_second_run_finds_nothing_to_do(database: Path, migrate: Migrate) -> None:
    """A run at the newest revision changes no byte of the database, and exits 0."""
    migrate()
    before = database.read_bytes()

    ended = migrate()

    assert ended.returncode == 0
    assert json.loads(ended.stderr)["before"] == [SCHEMA_REVISION]
    assert before == database.read_bytes()


def test_tasks_survive_a_second_run(database: Path, migrate: Migrate) -> None:
    """Migrating keeps what is in the table."""
    migrate()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO tasks (id, payload, created_at, accepted_at) VALUES ('a', '{}', 1, 1)")

    migrate()

    assert _ask(database, "SELECT id FROM tasks") == ["a"]


async def test_a_database_in_use_may_be_migrated_again(database: Path, migrate: Migrate) -> None:
    """A service accepts the schema that migrate makes, and a second run beside it exits 0 as well."""
    await asyncio.to_thread(migrate)
    async with open_store(database, system_clock) as store:
        ended = await asyncio.to_thread(migrate)
        await store.check()

    assert ended.returncode == 0


def test_the_database_keeps_a_write_ahead_log(database: Path, migrate: Migrate) -> None:
    """The file remembers WAL, so that no service has to set it."""
    migrate()

    assert _ask(database, "PRAGMA journal_mode") == ["wal"]


def test_a_lost_write_ahead_log_is_switched_on_again(database: Path, migrate: Migrate) -> None:
    """A database that somebody took out of WAL is back in it after the next run, though its schema was right."""
    migrate()
    _ask(database, "PRAGMA journal_mode = DELETE")

    migrate()

    assert _ask(database, "PRAGMA journal_mode") == ["wal"]


def test_check_says_no_before_and_yes_after(migrate: Migrate) -> None:
    """`--check` exits 1 where the schema is not the newest, 0 where it is."""
    before = migrate("--check")
    migrate()
    after = migrate("--check")

    assert (before.returncode, after.returncode) == (1, 0)
    assert [json.loads(ended.stderr)["name"] for ended in (before, after)] == ["schema_missing", "schema_made"]


def test_check_says_no_to_a_file_without_a_schema(database: Path, migrate: Migrate) -> None:
    """An empty file is a database without a schema: exit 1."""
    database.parent.mkdir()
    database.touch()

    assert migrate("--check").returncode == 1


def test_check_makes_nothing(database: Path, migrate: Migrate) -> None:
    """`--check` leaves no folder and no file behind."""
    migrate("--check")

    assert not database.parent.exists()


def test_the_default_database_is_below_the_working_folder(tmp_path: Path, migrate: Migrate) -> None:
    """Without a setting, `data/tasks.db` is made where the process was started."""
    ended = migrate(TASKQUEUE_DATABASE_URL="sqlite:///./data/tasks.db")

    assert ended.returncode == 0
    assert (tmp_path / "data" / "tasks.db").is_file()


@pytest.mark.parametrize("name", ["100%.db", "a?b=c.db", "ein Pfad mit ü.db", "%s", ":memory:"])
def test_any_name_of_a_file_is_taken_as_it_is(tmp_path: Path, migrate: Migrate, name: str) -> None:
    """A path is a path: no character of it means anything to a URL or to a configuration file."""
    ended = migrate(TASKQUEUE_DATABASE_URL=f"sqlite:///{name}")

    assert ended.returncode == 0
    assert {name, f"{name}.migrate.lock"} == {path.name for path in tmp_path.iterdir()}


def test_an_unknown_option_is_refused(migrate: Migrate) -> None:
    """A mistyped option exits 2, and nothing is migrated by mistake."""
    ended = migrate("--chekc")

    assert ended.returncode == 2
    assert "--chekc" in ended.stderr


def test_the_service_needs_neither_broker_nor_http(migrate: Migrate) -> None:
    """The whole service runs without aio-pika and aiohttp being imported."""
    script = (
        "import sys, taskqueue_migrate.__main__ as service\n"
        "try: service.main()\n"
        "finally: print(sorted({'aio_pika', 'aiormq', 'aiohttp', 'aiosqlite'} & set(sys.modules)))"
    )

    ended = migrate(command=(sys.executable, "-c", script))

    assert (ended.returncode, ended.stdout.strip()) == (0, "[]")


def _ask(database: Path, question: str) -> list[object]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(question)]
