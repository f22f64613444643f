"""Statements that run again and again: built and compiled by SQLAlchemy, once, and run by the driver.

What SQLAlchemy does beside that at every execution takes longer than SQLite itself, and over aiosqlite each of its
steps changes threads: `docs/adr/0021` has the measurement. Errors are the driver's own, see `faults.store_errors`; so
are values, which is why no column may have a type that converts any.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from taskqueue.store.batch import Batch

_DIALECT: Final = sqlite.dialect(paramstyle="named")


class _Statement:
    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self.statement = statement
        self._columns = [column.name for column in statement.exported_columns]
        if any(map(_converts, statement.exported_columns)):
            raise TypeError("the driver's values are taken as they are: no column may have a type that converts")

    @cached_property
    def _compiled(self) -> tuple[str, Mapping[str, Any]]:
        """The SQL, and those of its parameters that are always the same: the driver asks for the others."""
        compiled: SQLCompiler = self.statement.compile(dialect=_DIALECT)
        return compiled.string, {
            name: value for name, value in compiled.params.items() if not compiled.binds[name].required
        }

    def _named(self, rows: Iterable[Sequence[Any]]) -> Sequence[Any]:
        return [SimpleNamespace(**dict(zip(self._columns, row, strict=True))) for row in rows]


def _converts(column: ColumnElement[Any]) -> bool:
    """Whether SQLAlchemy would make something else of what the driver reads."""
    return column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) is not None


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
