"""Who uses a database: many services together, or embedded mode alone. A lock beside the file says which (flock(2))."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from taskqueue.errors import FileShared, FolderNotWritable

FOLDER_MODE: Final = 0o700
"""Of a folder that is made for a database: other users of the machine read no tasks. One that is there is as it is."""


@contextmanager
def alone_with(database: Path) -> Iterator[None]:
    """Keeps every other process of this system away from `database`, in a folder that it makes where there is none.

    Raises FileShared where one is there already, FolderNotWritable where there is no place for the lock.
    """
    with _held(database, fcntl.LOCK_EX, f"another process already uses {database}, and embedded mode must be alone"):
        yield


@contextmanager
def together_with(database: Path) -> Iterator[None]:
    """Uses `database` beside other services. Raises FileShared where embedded mode has it, or FolderNotWritable."""
    with _held(database, fcntl.LOCK_SH, f"embedded mode runs on {database}, and must be alone"):
        yield


@contextmanager
def _held(database: Path, kind: int, refusal: str) -> Iterator[None]:
    with _open(database.with_name(f"{database.name}.lock")) as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileShared(refusal) from None
        yield


def _open(place: Path) -> IO[str]:
    try:
        place.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderNotWritable(
            f"the folder of the database cannot be made ({error.strerror}): {place.parent}"
        ) from error
    try:
        return place.open("a")
    except OSError as error:
        raise FolderNotWritable(
            f"the lock file beside the database cannot be written by user {os.getuid()} ({error.strerror}): {place}"
        ) from error
