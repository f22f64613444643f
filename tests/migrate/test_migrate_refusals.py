"""What migrate refuses: each with its own exit code, and one clear sentence in the log."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.errors import MigrationFailed, NetworkFileSystem, SQLiteTooOld
from taskqueue.store import sqlite
from taskqueue_migrate.database import use_write_ahead_log
from taskqueue_migrate.runner import is_at_head, upgrade

Ended = subprocess.CompletedProcess[str]
Migrate = Callable[..., Ended]

NOBODY = 65534
AS_NOBODY = (
    sys.executable,
    "-c",
    f"import os, taskqueue_migrate.__main__ as it\nif os.getuid() == 0: os.setuid({NOBODY})\nit.main()",
)


def test_every_bad_setting_is_named_at_once(migrate: Migrate) -> None:
    """Bad settings exit 2, and one sentence names each variable that is at fault."""
    ended = migrate(TASKQUEUE_DATABASE_URL="postgresql://host/tasks", TASKQUEUE_LOG_LEVEL="loud")

    assert ended.returncode == 2
    assert "TASKQUEUE_DATABASE_URL" in _reason(ended)
    assert "TASKQUEUE_LOG_LEVEL" in _reason(ended)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, migrate: Migrate) -> None:
    """A folder that would have to be below a file exits 73."""
    (tmp_path / "file").touch()

    ended = migrate(TASKQUEUE_DATABASE_URL=f"sqlite:///{tmp_path}/file/data/tasks.db")

    assert ended.returncode == 73
    assert f"{tmp_path}/file/data" in _reason(ended)


def test_a_folder_that_cannot_be_written_is_refused(locked_folder: Path, migrate: Migrate) -> None:
    """A folder in which this user may not write exits 73, and the sentence says which user and which folder.

    Root may write anywhere: a process that root started becomes nobody before it looks.
    """
    ended = migrate(command=AS_NOBODY, TASKQUEUE_DATABASE_URL=f"sqlite:///{locked_folder}/tasks.db")

    assert ended.returncode == 73
    assert f"cannot be written by user {os.getuid() or NOBODY}: {locked_folder}" in _reason(ended)


def test_check_of_a_folder_that_cannot_be_searched_is_refused(locked_folder: Path, migrate: Migrate) -> None:
    """Where this user cannot even see whether there is a database, `--check` exits 75 and does not guess."""
    locked_folder.chmod(0)

    ended = migrate("--check", command=AS_NOBODY, TASKQUEUE_DATABASE_URL=f"sqlite:///{locked_folder}/tasks.db")

    assert ended.returncode == 75
    assert "Permission denied" in _reason(ended)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path, migrate: Migrate) -> None:
    """A database that cannot be opened exits 75."""
    ended = migrate(TASKQUEUE_DATABASE_URL=f"sqlite:///{tmp_path}")

    assert ended.returncode == 75
    assert "unable to open database file" in _reason(ended)


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_file_that_is_no_database_is_refused(database: Path, migrate: Migrate, arguments: tuple[str, ...]) -> None:
    """A file of something else exits 65, and is not touched."""
    database.parent.mkdir()
    database.write_text("these are my holiday notes " * 100)

    ended = migrate(*arguments)

    assert ended.returncode == 65
    assert "file is not a database" in _reason(ended)
    assert database.read_text().startswith("these are my holiday notes")


def test_a_newer_database_is_refused(database: Path, migrate: Migrate) -> None:
    """A revision that this version does not know exits 65, is named, and stays."""
    upgrade(database)
    _set_revision(database, "9999")

    ended = migrate()

    assert ended.returncode == 65
    assert "at revision 9999, which this version does not know" in _reason(ended)
    assert migrate("--check").returncode == 1


def test_a_network_file_system_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on NFS exits 79, before a file is made there."""
    monkeypatch.setattr(sqlite, "file_system_of", lambda *_: "nfs4")

    with pytest.raises(NetworkFileSystem, match="nfs4") as refusal:
        upgrade(database)

    assert refusal.value.exit_code == 79
    assert list(database.parent.iterdir()) == []


def test_a_connection_that_does_not_reach_the_disk_migrates_nothing(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pragma answers is asked back here too, as on every connection that writes."""
    monkeypatch.setattr(sqlite, "_SYNCHRONOUS_FULL", 3)

    with pytest.raises(MigrationFailed, match="synchronous is not FULL"):
        upgrade(database)


def test_a_file_without_a_write_ahead_log_is_refused() -> None:
    """Where SQLite cannot switch to WAL it says nothing, so that the mode is read back."""
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(NetworkFileSystem, match="stays 'memory'"):
        use_write_ahead_log(connection)


def test_an_old_sqlite_is_refused_where_the_file_is_shared(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite with the WAL-reset bug exits 78, but may serve a process that is alone with its file."""
    monkeypatch.setattr(sqlite, "use_bundled_sqlite", lambda: (3, 46, 1))

    with pytest.raises(SQLiteTooOld, match=r"3\.46\.1") as refusal:
        upgrade(database)
    upgrade(database, shared_file=False)

    assert refusal.value.exit_code == 78
    assert is_at_head(database, shared_file=False)


@pytest.fixture(name="locked_folder")
def _locked_folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody but root may write; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)
        Path(folder).chmod(0o755)


def _reason(ended: Ended) -> str:
    entry = json.loads(ended.stderr)
    assert entry["name"] == "start_refused"
    assert "exception" not in entry
    return str(entry["reason"])


def _set_revision(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
