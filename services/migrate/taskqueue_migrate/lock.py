"""One migrate at a time, for each database: the others wait, and then find nothing to do."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from taskqueue.errors import FolderNotWritable, StoreUnreachable

_POLL_SECONDS: Final = 0.05


@contextmanager
def only_migrate(path: Path, patience_seconds: float) -> Iterator[None]:
    """Keeps every other migrate off the database `path`, in this process and in others of this machine.

    The kernel frees the lock when its holder dies, so the lock file stays where it is. Raises StoreUnreachable where
    another migrate holds it for longer than `patience_seconds`.
    """
    place = Path(f"{path}.migrate.lock")
    with _open(place) as file:
        deadline = time.monotonic() + patience_seconds
        while not _take(file):
            if time.monotonic() > deadline:
                raise StoreUnreachable(f"another migrate has been at work for {patience_seconds:g} seconds: {place}")
            time.sleep(_POLL_SECONDS)
        yield


def _open(place: Path) -> IO[str]:
    try:
        return place.open("a")
    except OSError as error:
        raise FolderNotWritable(f"the lock file of migrate cannot be written ({error.strerror}): {place}") from error


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreUnreachable(f"the lock file of migrate cannot be locked: {error}") from error
    return True
