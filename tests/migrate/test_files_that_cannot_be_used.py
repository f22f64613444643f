"""A database of another user, or a damaged one: each service refuses it with one sentence."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from taskqueue_migrate.runner import upgrade
from tests.support.ports import free_port
from tests.unit.test_soundness import PAGE, damage

NOBODY = 65534
SERVICES = ("taskqueue_migrate", "taskqueue_api", "taskqueue_worker")
END_SECONDS = 60
BECOME = f"import os\nif os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"

Ended = tuple[int, str]


@pytest.fixture(name="place")
def _place() -> Iterator[Path]:
    """A database in a folder that everybody may write: pytest's own folders are closed to other users."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    upgrade(folder / "tasks.db")
    for file in folder.iterdir():
        file.chmod(0o666)
    yield folder / "tasks.db"
    shutil.rmtree(folder)


@pytest.fixture(name="in_use")
def _in_use(place: Path) -> Iterator[Path]:
    """The same, with the files that SQLite keeps beside a database in use."""
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("SELECT count(*) FROM tasks").fetchone()
        for suffix in ("-wal", "-shm"):
            Path(f"{place}{suffix}").chmod(0o666)
        yield place


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("suffix", "mode"), [("", 0o444), ("", 0o600), ("-wal", 0o444), ("-shm", 0o444)])
def test_a_file_of_another_user_is_refused(in_use: Path, service: str, suffix: str, mode: int) -> None:
    """Exit code 73; the sentence names the file, who may not write it, and whose it is: also of the files beside it."""
    file = Path(f"{in_use}{suffix}")
    file.chmod(mode)
    if os.getuid() != 0:
        pytest.skip("only root can make a file that belongs to somebody else")

    code, reason = _started(service, in_use, as_nobody=True)

    assert (code, reason) == (
        73,
        f"a file of the database cannot be read and written by user {NOBODY}, it belongs to user 0: {file}",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_volume_of_another_user_is_refused(place: Path, service: str) -> None:
    """Exit code 73, and the sentence names the folder and this user."""
    place.parent.chmod(0o755)
    if os.getuid() != 0:
        pytest.skip("only root can make a folder that belongs to somebody else")

    code, reason = _started(service, place, as_nobody=True)

    assert (code, reason) == (73, f"the folder of the database cannot be written by user {NOBODY}: {place.parent}")


@pytest.mark.parametrize("service", [*SERVICES, "taskqueue_embedded"])
@pytest.mark.parametrize(("start", "end"), [(0, 100), (100, PAGE), (PAGE * 4, PAGE * 9)])
def test_a_damaged_database_is_refused(place: Path, service: str, start: int, end: int) -> None:
    """Exit code 65, one sentence that says so and names the file; not a byte is written to it."""
    damage(place, start, end)
    before = place.read_bytes()

    code, reason = _started(service, place)

    assert code == 65
    assert "damaged" in reason
    assert str(place) in reason
    assert place.read_bytes() == before


def test_a_copy_that_was_restored_is_used(place: Path) -> None:
    """The way back, as the README says: a copy made by SQLite itself, put in the place of the damaged file."""
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("INSERT INTO tasks (id, payload, created_at, accepted_at) VALUES ('a', '{}', 1, 1)")
        connection.commit()
        connection.execute("VACUUM INTO ?", [f"{place}.copy"])
    damage(place, 100, PAGE)
    assert _started("taskqueue_migrate", place)[0] == 65

    for suffix in ("-wal", "-shm"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    Path(f"{place}.copy").replace(place)

    assert _started("taskqueue_migrate", place) == (0, "")
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("SELECT id FROM tasks").fetchall() == [("a",)]


def _started(service: str, database: Path, *, as_nobody: bool = False) -> Ended:
    """The exit code of a service that was started with this database, and the sentence with which it refused."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
    settings = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": f"amqp://127.0.0.1:{free_port()}/", "PORT": "0"}
    settings["LOG_FORMAT"] = "json"
    script = f"import {service}.__main__ as it\n" + (BECOME if as_nobody else "") + "it.main()"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {f"TASKQUEUE_{name}": value for name, value in settings.items()},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    refusals = [entry for entry in map(_entry, ended.stderr.splitlines()) if entry.get("name") == "start_refused"]
    return ended.returncode, str(refusals[0]["reason"]) if refusals else ""


def _entry(line: str) -> dict[str, object]:
    with suppress(ValueError):
        return dict(json.loads(line))
    return {}
