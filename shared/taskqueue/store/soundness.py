"""Whether the files of a database can be used: that this user may write each of them, and that they are whole.

Source: sqlite.org/pragma.html#pragma_quick_check. It sees a damaged structure, and no byte that
has changed within a value.
"""

import os
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from taskqueue.errors import DatabaseDamaged, FolderNotWritable
from taskqueue.store.sqlite import result_code

_STEPS_BETWEEN_LOOKS: Final = 10_000
_FILES: Final = ("", "-wal", "-shm")
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def require_writable(database: Path) -> None:
    """Raises FolderNotWritable, with the file and both users, where this one may not write a file that is there.

    SQLite would go on reading, or say that it cannot open the database, and not which of its files is meant.
    """
    for suffix in _FILES:
        file = Path(f"{database}{suffix}")
        with suppress(FileNotFoundError):
            owner = file.stat().st_uid
            if not os.access(file, os.R_OK | os.W_OK):
                raise FolderNotWritable(
                    f"a file of the database cannot be read and written by user {os.getuid()}, "
                    f"it belongs to user {owner}: {file}"
                )


def require_whole(database: Path, seconds: float) -> None:
    """Raises DatabaseDamaged where the file is damaged, or is no database; looks for so many seconds at most.

    What has not been looked at by then is taken to be whole. Whatever else is wrong is left to those who use the file.
    """
    driver = sys.modules["sqlite3"]
    until = time.monotonic() + seconds
    try:
        with closing(driver.connect(database, timeout=seconds)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except driver.Error as error:
        if _is_damage(error):
            raise _damaged(str(error), database) from error
    else:
        if found != "ok":
            raise _damaged(" ".join(found.split()), database)


def _is_damage(error: Any) -> bool:
    return result_code(error) in _DAMAGED


def _damaged(how: str, database: Path) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"the database is damaged ({how}): restore a copy of {database}, and do not write to this one"
    )
