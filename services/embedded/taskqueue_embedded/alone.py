"""Making sure that one process alone uses a database, for as long as it runs."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from taskqueue.errors import FileShared, FolderNotWritable


@contextmanager
def alone_with(database: Path) -> Iterator[None]:
    """Holds a lock beside `database`, in a folder that it makes where there is none.

    Raises FileShared where another process of embedded mode has it, FolderNotWritable where there is no place for it.
    """
    with _open(database.with_name(f"{database.name}.embedded.lock")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileShared(f"another process already runs in embedded mode on {database}") from None
        yield


def _open(place: Path) -> IO[str]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return place.open("w")
    except OSError as error:
        raise FolderNotWritable(
            f"the folder of the database cannot be made or written ({error.strerror}): {place.parent}"
        ) from error
