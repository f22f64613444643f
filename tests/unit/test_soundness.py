"""Files of a database that cannot be used are found out before the start, and the sentence says which and why."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue.errors import DatabaseDamaged
from taskqueue.store import soundness
from taskqueue.store.soundness import require_whole, require_writable

PAGE = 4096


def test_a_whole_database_is_used(database: Path) -> None:
    """Also while it is written to."""
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        require_whole(database, 1)
    require_writable(database)


def test_a_look_changes_nothing(database: Path) -> None:
    """Not a byte, and no file is left beside it."""
    before = database.read_bytes()

    require_whole(database, 1)

    assert database.read_bytes() == before


def test_a_look_is_bounded(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is too large for the time given is taken to be whole: the start is not held up."""
    monkeypatch.setattr(soundness, "_STEPS_BETWEEN_LOOKS", 1)
    damage(filled, PAGE * 20, PAGE * 40)

    require_whole(filled, 0)
    with pytest.raises(DatabaseDamaged):
        require_whole(filled, 60)


def test_what_is_locked_is_not_called_damaged(database: Path) -> None:
    """Whoever uses the file waits for it, or says that it is locked."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        require_whole(database, 0.05)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(0, 100, id="the header"),
        pytest.param(100, PAGE, id="the schema"),
        pytest.param(PAGE * 20, PAGE * 60, id="pages of tasks"),
    ],
)
def test_flipped_bytes_are_noticed(filled: Path, start: int, end: int) -> None:
    """Wherever in the structure of the file they are; the sentence names the file."""
    damage(filled, start, end)

    with pytest.raises(DatabaseDamaged, match="the database is damaged") as refusal:
        require_whole(filled, 60)

    assert str(filled) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_cut_short_is_noticed(filled: Path) -> None:
    """As after a copy that did not end."""
    filled.write_bytes(filled.read_bytes()[: PAGE * 30])

    with pytest.raises(DatabaseDamaged):
        require_whole(filled, 60)


def damage(database: Path, start: int, end: int) -> None:
    """Flips every bit of a stretch of the file."""
    content = bytearray(database.read_bytes())
    content[start:end] = bytes(byte ^ 0xFF for byte in content[start:end])
    database.write_bytes(content)


@pytest.fixture(name="filled")
def _filled(database: Path) -> Path:
    """A database of some hundred pages."""
    task = "INSERT INTO tasks (id, payload, created_at, accepted_at, action) VALUES (?, ?, 1, ?, 'a')"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(task, [(f"id-{number}", f'"{"x" * 1000}"', number) for number in range(1000)])
    return database
