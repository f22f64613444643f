"""Making sure that one process alone uses a database, for as long as it runs."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskqueue.errors import FileShared


@contextmanager
def alone_with(database: Path) -> Iterator[None]:
    """Holds a lock beside `database`. Raises FileShared where another process of embedded mode has it."""
    with database.with_name(f"{database.name}.embedded.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileShared(f"another process already runs in embedded mode on {database}") from None
        yield
