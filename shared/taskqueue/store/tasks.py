"""The store: what the rest of the system may do with tasks. Every method raises StoreUnavailable or QueryFailed."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from taskqueue.clock import Clock, Elapsed
from taskqueue.errors import QueryFailed, SchemaUnknown, StoreUnavailable, StoreUnreachable
from taskqueue.store import reads, soundness, sqlite
from taskqueue.store.doors.adding import Adding
from taskqueue.store.doors.auditing import Auditing
from taskqueue.store.doors.enrolling import Enrolling
from taskqueue.store.doors.listening import Listening
from taskqueue.store.doors.ordering import Ordering
from taskqueue.store.doors.reading import Reading
from taskqueue.store.doors.retaining import Retaining
from taskqueue.store.doors.scheduling import Scheduling
from taskqueue.store.doors.sweeping import Sweeping
from taskqueue.store.doors.working import Working
from taskqueue.store.sharing import together_with
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.writer import GroupCommitWriter

LOOK_SECONDS: Final = 1.0
"""How long a service looks whether its database is whole. Most are small; migrate takes its time."""


class TaskStore(Adding, Working, Sweeping, Scheduling, Ordering, Retaining, Reading, Listening, Enrolling, Auditing):
    """Tasks on disk: written through one group-commit writer, read through a pool of its own.

    It has all the doors; whoever calls asks for the one that it needs.
    """

    async def check(self) -> None:
        """Returns where the database answers with the schema that this version knows; else raises SchemaUnknown."""
        try:
            found = await self._read(reads.schema_revisions)
        except QueryFailed:
            found = []
        if list(found) != [SCHEMA_REVISION]:
            at = f"at revision {found[0]}" if found else "without a schema"
            raise SchemaUnknown(
                f"the database is {at}, and this version needs revision {SCHEMA_REVISION}: "
                "run the migrate service of this version first"
            )


@asynccontextmanager
async def open_store(
    path: Path, clock: Clock, elapsed: Elapsed = time.monotonic, *, shared_file: bool = True
) -> AsyncIterator[TaskStore]:
    """The store in the SQLite file `path`, made by the migrate service.

    Raises StartRefused where it must not be used: see `errors`. `shared_file` says that other processes write it too.
    """
    _refuse_unsafe(path, shared_file=shared_file)
    with together_with(path) if shared_file else nullcontext():
        async with _opened(path, clock, elapsed) as store:
            yield store


@asynccontextmanager
async def _opened(path: Path, clock: Clock, elapsed: Elapsed) -> AsyncIterator[TaskStore]:
    engine, readers = sqlite.writer_engine(path), sqlite.reader_engine(path)
    writer = GroupCommitWriter(engine)
    store = TaskStore(writer, readers, clock, elapsed)
    try:
        async with writer.running():
            try:
                await store.check()
            except StoreUnavailable as error:
                raise StoreUnreachable(f"the database cannot be opened: {error}") from error
            yield store
    finally:
        engine.dispose()
        await readers.dispose()


def _refuse_unsafe(path: Path, *, shared_file: bool) -> None:
    sqlite.require_usable_folder(path.parent)
    version = sqlite.use_bundled_sqlite()
    if shared_file:
        sqlite.require_mended(version)
    if not path.exists():
        raise StoreUnreachable(f"there is no database yet at {path}: run the migrate service first")
    soundness.require_writable(path)
    soundness.require_whole(path, LOOK_SECONDS)
