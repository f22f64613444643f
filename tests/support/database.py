"""Looking into a SQLite file from outside, as an operator would."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from taskqueue.store.sqlite import use_bundled_sqlite


def rows(database: Path, query: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
    """What `query` answers."""
    with closing(connect(database)) as connection, connection:
        answer: Sequence[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
        return answer


def connect(database: Path) -> Any:
    """A connection that begins no transaction by itself, through the store's own SQLite.

    Two copies of SQLite in one process break one another's locks: sqlite.org/howtocorrupt.html, section 2.2.1.
    """
    use_bundled_sqlite()
    return sys.modules["sqlite3"].connect(database, timeout=5, isolation_level=None)


def change(database: Path, statement: str, *parameters: object) -> None:
    """Does what an operator, or a disk, may do to the file."""
    rows(database, statement, *parameters)


@contextmanager
def write_locked(database: Path) -> Iterator[None]:
    """Another process holds the write lock for as long as the block runs."""
    with closing(connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def connection_threads() -> frozenset[int]:
    """The threads in which aiosqlite works, a connection each."""
    return frozenset(
        thread.ident or 0 for thread in threading.enumerate() if "_connection_worker_thread" in thread.name
    )
