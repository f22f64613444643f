"""Brings a database to the newest revision: the same calls for the command line and for embedded mode."""

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from taskqueue import events, failpoints
from taskqueue.errors import FolderNotWritable, SchemaUnknown, StoreUnreachable
from taskqueue.store import soundness, sqlite
from taskqueue.store.sharing import FOLDER_MODE
from taskqueue_migrate import database
from taskqueue_migrate.lock import only_migrate

MIGRATIONS: Final = Path(__file__).with_name("migrations")
PATIENCE_SECONDS: Final = 60.0

_ALEMBIC: Final = threading.Lock()
"""Alembic keeps what it works on in a global."""


def upgrade(
    path: Path,
    *,
    shared_file: bool = True,
    migrations: Path = MIGRATIONS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Brings the SQLite file `path`, made where it is missing, to the newest revision; does nothing where it is there.

    Blocks: call it in a thread. `shared_file` says that other processes write the file too. Raises StartRefused, and
    leaves the schema as it was, where that cannot be done; waits at most `patience_seconds` for each lock, and looks as
    long, too, whether the file is whole.
    """
    _make_folder(path.parent)
    _choose_sqlite(shared_file=shared_file)
    scripts = _scripts(migrations)
    if _exists(path):
        soundness.require_writable(path)
        soundness.require_whole(path, patience_seconds)
    with only_migrate(path, patience_seconds):
        failpoints.reach("migrate.locked")
        before, after = _upgrade(path, scripts, patience_seconds)
        failpoints.reach("migrate.committed")
    events.emit(events.SCHEMA_MADE, before=sorted(before), after=sorted(after))


def _upgrade(path: Path, scripts: Config, patience_seconds: float) -> tuple[set[str], set[str]]:
    """The revisions before and after."""
    with database.migrating(path, patience_seconds) as connection:
        before = _revisions(connection)
        _require_known(before, scripts)
        with _ALEMBIC:
            scripts.attributes["connection"] = connection
            command.upgrade(scripts, "head")
        after = _revisions(connection)
        failpoints.reach("migrate.upgraded")
    return before, after


def is_at_head(path: Path, *, shared_file: bool = True, migrations: Path = MIGRATIONS) -> bool:
    """Whether the SQLite file `path` exists and is at the newest revision. Changes nothing, and blocks."""
    if not _exists(path):
        return False
    _choose_sqlite(shared_file=shared_file)
    with database.reading(path, sqlite.BUSY_TIMEOUT_SECONDS) as connection:
        return _revisions(connection) == set(_directory(_scripts(migrations)).get_heads())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderNotWritable(f"the folder of the database cannot be made ({error.strerror}): {folder}") from error
    sqlite.require_usable_folder(folder)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreUnreachable(f"the database cannot be reached: {error}") from error
    return True


def _choose_sqlite(*, shared_file: bool) -> None:
    version = sqlite.use_bundled_sqlite()
    if shared_file:
        sqlite.require_mended(version)


def _scripts(migrations: Path) -> Config:
    scripts = Config()
    scripts.set_main_option("script_location", str(migrations).replace("%", "%%"))
    scripts.set_main_option("path_separator", "os")
    return scripts


def _directory(scripts: Config) -> ScriptDirectory:
    return ScriptDirectory.from_config(scripts)


def _revisions(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def _require_known(found: set[str], scripts: Config) -> None:
    known = {script.revision for script in _directory(scripts).walk_revisions()}
    if unknown := found - known:
        raise SchemaUnknown(
            f"the database is at revision {', '.join(sorted(unknown))}, which this version does not know: "
            "run the version that made it, or a newer one"
        )
