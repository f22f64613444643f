"""Statements that run again and again: built and compiled by SQLAlchemy, once, and run by the driver.

What SQLAlchemy does beside that at every execution takes longer than SQLite itself, and over aiosqlite each of its
steps changes threads: `docs/adr/0021` has the measurement. Errors are the driver's own, see `faults.store_errors`; so
are values, which is why no column has a type that converts any.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from taskqueue.store.batch import Batch

_DIALECT: Final = sqlite.dialect(paramstyle="named")


class _Statement:
    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self.statement = statement
        self._columns = [column.name for column in statement.exported_columns]

    @cached_property
    def _compiled(self) -> tuple[str, Mapping[str, Any]]:
        """The SQL, and the values of those of its parameters that are always the same."""
        compiled = self.statement.compile(dialect=_DIALECT)
        return compiled.string, compiled.params

    def _named(self, rows: Iterable[Sequence[Any]]) -> Sequence[Any]:
        return [SimpleNamespace(**dict(zip(self._columns, row, strict=True))) for row in rows]


class Query(_Statement):
    """A question in one statement, and so about one state of the database."""

    async def rows(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """The rows that answer it, given these values of its parameters."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        sql, constants = self._compiled
        found = await driver.execute_fetchall(sql, {**constants, **values})
        return self._named(found)

    async def row(self, connection: AsyncConnection, **values: Any) -> Any | None:
        """The first of them, if there is any."""
        return next(iter(await self.rows(connection, **values)), None)


class BatchWrite(_Statement):
    """A write of a batch, whatever its size."""

    def run(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> Sequence[Any]:
        """Writes `rows` in the transaction that `connection` is in; answers the rows that it returns."""
        driver: Any = connection.connection.driver_connection
        sql, constants = self._compiled
        returned = driver.execute(sql, {**constants, **Batch.of(rows)})
        return self._named(returned)
