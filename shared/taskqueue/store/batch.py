"""Many rows in one parameter, so that a batch costs one statement, whatever its size.

Each statement of SQLite's runs without Python's interpreter lock, and has to win it back at its end; one statement a
row would do so for every row. `docs/adr/0008` has the measurement.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import ColumnElement, bindparam, func
from sqlalchemy.sql.selectable import TableValuedAlias

_PARAMETER: Final = "batch"


class Batch:
    """Rows as a table to select from, to insert from and to update from. They are bound by `Batch.of`."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self.table: TableValuedAlias = func.json_each(bindparam(_PARAMETER)).table_valued("value", name=_PARAMETER)

    def __getitem__(self, column: str) -> ColumnElement[Any]:
        """A column of the rows."""
        return func.json_extract(self.table.c.value, f"$[{self._columns.index(column)}]")

    @staticmethod
    def of(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
        """The parameter that holds `rows`, their values in the order of the columns."""
        return {_PARAMETER: to_json(list(rows)).decode()}
