"""The SQLite file, as migrations need it: one transaction around all of them, and the write-ahead log."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from taskqueue import failpoints
from taskqueue.errors import (
    FolderNotWritable,
    MigrationFailed,
    NetworkFileSystem,
    SchemaUnknown,
    StartRefused,
    StoreUnreachable,
)
from taskqueue.store.sqlite import make_durable, result_code

_MAY_PASS: Final = frozenset(
    [
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    ]
)
_NOT_A_DATABASE: Final = frozenset([sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT])


@contextmanager
def reading(path: Path, patience_seconds: float) -> Iterator[Connection]:
    """A connection to the file `path` that reads in one transaction, and changes nothing."""
    with _refusals(), _engine(path, "BEGIN", patience_seconds).begin() as connection:
        yield connection


@contextmanager
def migrating(path: Path, patience_seconds: float) -> Iterator[Connection]:
    """A connection in one transaction that holds the write lock: all of it is kept at the end, or nothing is.

    Sets the write-ahead log, which the file remembers: here, and nowhere else in the system.
    """
    engine = _engine(path, "BEGIN IMMEDIATE", patience_seconds)
    event.listen(engine, "connect", lambda connection, _: use_write_ahead_log(connection))
    event.listen(engine, "before_cursor_execute", lambda *_: failpoints.reach("migrate.statement"))
    with _refusals(), engine.begin() as connection:
        yield connection


def use_write_ahead_log(connection: Any) -> None:
    """Switches the file behind a driver's connection to WAL."""
    with closing(connection.cursor()) as cursor:
        mode: str = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise NetworkFileSystem(f"SQLite's write-ahead log does not work here: the journal mode stays {mode!r}")


def _engine(path: Path, begin: str, patience_seconds: float) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path.absolute())),
        connect_args={"timeout": patience_seconds},
        poolclass=NullPool,
    )
    make_durable(engine, begin=begin)
    return engine


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StartRefused:
        raise
    except DBAPIError as error:
        raise _refusal(error) from error
    except Exception as error:  # a migration may raise anything
        raise MigrationFailed(
            f"a migration failed, and the schema is as it was: {type(error).__name__}: {error}"
        ) from error


def _refusal(error: DBAPIError) -> StartRefused:
    code = result_code(error.orig)
    if code in _MAY_PASS:
        return StoreUnreachable(f"the database cannot be reached: {error.orig}")
    if code in _NOT_A_DATABASE:
        return SchemaUnknown(f"the database cannot be read: {error.orig}")
    if code == sqlite3.SQLITE_READONLY:
        return FolderNotWritable(f"the database cannot be written: {error.orig}")
    return MigrationFailed(f"a migration failed, and the schema is as it was: {error.orig}")
