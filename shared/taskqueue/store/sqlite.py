"""What SQLite needs to be safe between processes: which library, which file system, which settings.

Sources: sqlite.org/wal.html (the WAL-reset bug, fixed in 3.51.3 and in the branches 3.50.7 and 3.44.6; no network
file systems) and sqlite.org/pragma.html (synchronous).
"""

import os
import random
import re
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskqueue.errors import FolderNotWritable, NetworkFileSystem, SQLiteTooOld, StoreUnavailable

BUSY_TIMEOUT_SECONDS: Final = 5
READERS: Final = 4

LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""To what the write-ahead log is cut when it begins anew. SQLite copies it to the file from 4 MB on, but a reader that
does not end holds that up, and without a limit the file keeps its largest size (sqlite.org/wal.html#bigwal)."""

LOOK_AGAIN_SECONDS: Final = (0.0001, 0.0004)
"""How often a writer looks whether the write lock is free; by chance, so that no two stay in step."""

_TAKE_WRITE_LOCK: Final = "BEGIN IMMEDIATE"
_LIMIT_LOG: Final = f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}"
_SYNCHRONOUS_FULL: Final = 2
_MENDED_SINCE: Final = (3, 51, 3)
_MENDED_BRANCHES: Final = ((3, 50, 7), (3, 44, 6))
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "fuse", "glusterfs", "lustre"),
        *("nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"),
    }
)
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


def use_bundled_sqlite() -> tuple[int, ...]:
    """Puts the pysqlite3 wheel's SQLite in the place of the system's, and answers the version now in use.

    Must come before aiosqlite is imported for the first time, which is why this module does not import it.
    """
    if "aiosqlite" not in sys.modules and not is_mended(sqlite3.sqlite_version_info):
        try:
            import pysqlite3  # noqa: PLC0415 - there is no wheel for every platform
        except ImportError:
            return sqlite3.sqlite_version_info
        sys.modules["sqlite3"] = pysqlite3
        sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
    version: tuple[int, ...] = sys.modules["sqlite3"].sqlite_version_info
    return version


def is_mended(version: tuple[int, ...]) -> bool:
    """Whether this SQLite is free of the WAL-reset bug."""
    return version >= _MENDED_SINCE or any(
        version[:2] == branch[:2] and version >= branch for branch in _MENDED_BRANCHES
    )


def require_mended(version: tuple[int, ...]) -> None:
    """Raises SQLiteTooOld for a version that must not share a file between processes."""
    if not is_mended(version):
        found = ".".join(str(part) for part in version)
        raise SQLiteTooOld(
            f"SQLite {found} can corrupt a file that two processes write; 3.51.3 or newer is needed "
            "(the wheel pysqlite3 carries one)"
        )


def require_usable_folder(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Raises FolderNotWritable or NetworkFileSystem where `folder` cannot hold a database with a write-ahead log."""
    if not folder.is_dir():
        raise FolderNotWritable(f"the folder of the database does not exist: {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FolderNotWritable(f"the folder of the database cannot be written by user {os.getuid()}: {folder}")
    kind = file_system_of(folder, mounts)
    if kind.partition(".")[0] in _NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(
            f"the folder of the database is on a shared file system ({kind}), where SQLite's write-ahead log does not "
            f"work; use a local disk or a named volume: {folder}"
        )


def file_system_of(folder: Path, mounts: Path) -> str:
    """The type of the file system that holds `folder`, as proc(5) names it; empty where the system has no such list."""
    if not mounts.exists():
        return ""
    place = folder.resolve()
    best = (-1, "")
    for line in mounts.read_bytes().strip().split(b"\n"):
        before, _, after = line.partition(b" - ")
        point = Path(os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), before.split(b" ")[4])))
        if place.is_relative_to(point):
            # Of two mounts over one point, the later one hides the other.
            best = max((len(point.parts), after.split(b" ")[0].decode()), best, key=lambda found: found[0])
    return best[1]


def writer_engine(path: Path) -> Engine:
    """An engine with one connection, whose transactions take the write lock at once and reach the disk at commit.

    Without aiosqlite, whose every call changes threads: the group-commit writer has a thread of its own.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path.absolute())),
        connect_args={"timeout": 0, "check_same_thread": False},
        poolclass=StaticPool,
        module=sys.modules["sqlite3"],
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "connect", lambda connection, _: _run(connection, _LIMIT_LOG))
    event.listen(engine, "begin", _begin_writing)
    return engine


def reader_engine(path: Path) -> AsyncEngine:
    """An engine with a few connections that only read."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path.absolute())),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        pool_size=READERS,
        max_overflow=0,
        pool_reset_on_return=None,  # whoever begins a transaction ends it; to make sure is one more change of threads
    )
    make_durable(engine.sync_engine, begin="BEGIN")
    event.listen(engine.sync_engine, "connect", lambda connection, _: _run(connection, "PRAGMA query_only = ON"))
    return engine


def follower_engine(path: Path) -> Engine:
    """An engine with one connection that only reads, and sees at each statement what is newest: it has no transactions.

    For one thread, which looks so often that aiosqlite's changes of threads would cost more than the look.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path.absolute())),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False, "isolation_level": None},
        poolclass=StaticPool,
        module=sys.modules["sqlite3"],
    )
    event.listen(engine, "connect", lambda connection, _: _run(connection, "PRAGMA query_only = ON"))
    return engine


def data_version(connection: Connection) -> int:
    """A number that is another one as soon as any other connection has committed (sqlite.org/pragma.html)."""
    version: int = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
    return version


def result_code(error: object) -> int | None:
    """SQLite's primary result code for an error of the driver's: the low byte (sqlite.org/rescode.html)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def make_durable(engine: Engine, *, begin: str) -> None:
    """Has every connection of `engine` reach the disk at commit, and every transaction begin with `begin`."""
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", lambda connection: _begin(connection, begin))


def _set_up(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions: the "begin" hook does
    _run(connection, "PRAGMA synchronous = FULL")
    if _run(connection, "PRAGMA synchronous") != _SYNCHRONOUS_FULL:
        raise StoreUnavailable("this connection does not write through to the disk (synchronous is not FULL)")


def _begin(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def _begin_writing(connection: Connection) -> None:
    """Takes the write lock, and waits for it while another process has it.

    Not by SQLite's own means: it sleeps for longer and longer, 1, 2, 5, 10 ms and more (sqlite3BusyDefault in main.c),
    while a transaction here takes less than one, and others pass it by meanwhile.
    """
    driver: Any = connection.connection.driver_connection
    give_up_at = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while time.monotonic() < give_up_at:
        try:
            driver.execute(_TAKE_WRITE_LOCK)
        except sys.modules["sqlite3"].OperationalError as error:
            if result_code(error) != sqlite3.SQLITE_BUSY:
                break
            time.sleep(random.uniform(*LOOK_AGAIN_SECONDS))  # noqa: S311 - jitter needs no secrecy
        else:
            return
    connection.exec_driver_sql(_TAKE_WRITE_LOCK)  # fails as before, and in SQLAlchemy's words


def _run(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row[0] if row else None
    finally:
        cursor.close()
