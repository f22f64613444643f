"""The database of a history: the product's own store on a real SQLite, whose work is done at once and on this thread.

A transaction is one step of the simulation, as it is atomic in SQLite; what goes wrong goes wrong around it.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, StaticPool, Transaction, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from taskqueue.clock import Clock
from taskqueue.schema import TaskMessage
from taskqueue.store import sqlite, sweeps
from taskqueue.store.claims import Claimed, NotClaimed
from taskqueue.store.doors.working import NO_LIMITS, Limits
from taskqueue.store.faults import store_errors
from taskqueue.store.tables import metadata
from taskqueue.store.tasks import TaskStore
from taskqueue.store.writer import GroupCommitWriter
from taskqueue_migrate.runner import upgrade
from tests.simulation.chance import Chance
from tests.simulation.loop import LANE
from tests.simulation.observer import Observer
from tests.simulation.trace import Trace

ANSWERED: Final[ContextVar[Callable[[Claimed | NotClaimed], None]]] = ContextVar("answered")
"""Who wants to know what came of the claim that is made on behalf of a delivery."""


class Database:
    """A SQLite with the product's schema; one for all histories, since making statements costs more than running them.

    In memory, or in the file `path`.
    """

    def __init__(self, path: str = ":memory:") -> None:
        sqlite.use_bundled_sqlite()
        driver = sys.modules["sqlite3"]
        self._raw = driver.connect(path, check_same_thread=False, isolation_level=None)
        with TemporaryDirectory() as folder:
            upgrade(Path(folder) / "tasks.db", shared_file=False)
            made = driver.connect(Path(folder) / "tasks.db")
            made.backup(self._raw)
            made.close()
        tables = (*metadata.tables, "sqlite_sequence")
        self._made = {table: self.rows(f"SELECT * FROM {table}") for table in tables}  # noqa: S608 - names of our own
        self.engine = self._engine()
        sqlite.make_durable(self.engine, begin="BEGIN IMMEDIATE")
        self.reading = self._engine().connect()

    def empty(self) -> None:
        """Makes room for the next history: all is as migrations have made it, the numbers of rows to come included."""
        for table, rows in self._made.items():
            self._raw.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
            for row in rows:
                self._raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - the same

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        """What a look from outside answers."""
        found: Sequence[Sequence[Any]] = self._raw.execute(query).fetchall()
        return found

    def _engine(self) -> Engine:
        return create_engine(
            "sqlite://", creator=lambda: self._raw, poolclass=StaticPool, module=sys.modules["sqlite3"]
        )


class FaultyEngine:
    """What the writer of one process sees of the database."""

    def __init__(self, database: Database, chance: Chance, observer: Observer, trace: Trace) -> None:
        self._database = database
        self._chance = chance
        self._observer = observer
        self._trace = trace

    def connect(self) -> "FaultyEngine":
        """A connection, as `sqlalchemy.Engine` has it."""
        return self

    def close(self) -> None:
        """Gives back nothing: the database outlives its processes."""

    @contextmanager
    def begin(self) -> Iterator[Transaction | None]:
        """A transaction, as `sqlalchemy.Connection` has it."""
        if self._chance.happens("commit refused"):
            self._trace.note("commit refused")
            raise _refusal("database is locked")
        try:
            with self._database.engine.begin() as connection:
                yield connection.get_transaction()
                self._perhaps_crash()
        except BaseException:
            self._observer.rolled_back()
            raise
        self._observer.committed()
        if self._chance.happens("crash after commit"):
            LANE.get().crash()
        if self._chance.happens("commit of unknown end"):
            self._trace.note("commit of unknown end")
            raise _refusal("disk I/O error")

    def _perhaps_crash(self) -> None:
        if self._chance.happens("crash before commit"):
            LANE.get().crash()
            raise _refusal("nobody is there to see this")


class SimulatedStore(TaskStore):
    """The product's store, but for where its reads are done; what it takes and claims is told to the observer."""

    def __init__(self, database: Database, chance: Chance, observer: Observer, trace: Trace, clock: Clock) -> None:
        self.writer = GroupCommitWriter(cast("Engine", FaultyEngine(database, chance, observer, trace)))
        super().__init__(self.writer, cast("AsyncEngine", None), clock, lambda: clock() / 1000)
        self._database = database
        self._chance = chance
        self._observer = observer

    async def claim(
        self, message: TaskMessage, worker: str, lease: int, challenge: int, limits: Limits = NO_LIMITS
    ) -> Claimed | NotClaimed:
        """See `TaskStore`."""
        answer = await super().claim(message, worker, lease, challenge, limits)
        ANSWERED.get(_nobody)(answer)
        return answer

    async def _write(self, write: Any, item: Any) -> Any:
        return await super()._write(self._watched_take if write is sweeps.take_due else write, item)

    def _watched_take(self, connection: Connection, items: Sequence[sweeps.Due]) -> Sequence[sweeps.Taken]:
        answers = sweeps.take_due(connection, items)
        for item, taken in zip(items, answers, strict=True):
            self._observer.taking(item, taken)
        return answers

    async def _read(self, query: Any) -> Any:
        with store_errors():
            if self._chance.happens("read refused"):
                raise _refusal("disk I/O error")
            answer = await query(_Reading(self._database.reading))
        await asyncio.sleep(self._chance.latency())
        return answer


class _Reading:
    """The part of `AsyncConnection`, and of aiosqlite, that the store's reads use.

    It never waits, so that a read sees one state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_raw_connection(self) -> "_Reading":
        """See `AsyncConnection`."""
        return self

    @property
    def driver_connection(self) -> "_Reading":
        """What speaks as aiosqlite does."""
        return self

    async def execute_fetchall(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        """See `aiosqlite.Connection`."""
        driver: Any = self._connection.connection.driver_connection
        return driver.execute(statement, parameters).fetchall()

    async def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        """See `AsyncConnection`."""
        return self._connection.execute(statement, parameters)


def _refusal(reason: str) -> OperationalError:
    return OperationalError("", None, sqlite3.OperationalError(reason))


def _nobody(_: Claimed | NotClaimed) -> None:
    """Nobody wants to know."""
