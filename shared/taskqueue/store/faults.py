"""What the database's own errors mean to the rest of the system."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from taskqueue.errors import QueryFailed, RowDamaged, StoreUnavailable
from taskqueue.store.sqlite import result_code

_OF_CIRCUMSTANCES: Final = frozenset({"OperationalError", "InterfaceError"})
"""What PEP 249 has for errors of the database's own: by name, since two libraries are SQLite drivers here."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the database driver's errors into StoreUnavailable (may pass: locked, full, gone) or QueryFailed."""
    try:
        yield
    except DBAPIError as error:
        raise _meaning(error.orig or error, gone=error.connection_invalidated) from error
    except PoolTimeout as error:
        raise StoreUnavailable(str(error)) from error
    except SQLAlchemyError as error:
        raise QueryFailed(str(getattr(error, "orig", None) or error)) from error
    except sys.modules["sqlite3"].Error as error:
        raise _meaning(error) from error
    except OSError as error:
        raise StoreUnavailable(str(error)) from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a damaged row brings about into RowDamaged; `what` names the row."""
    try:
        yield
    except Exception as error:
        raise RowDamaged(f"{what}: {error}") from error


def _meaning(error: BaseException, *, gone: bool = False) -> StoreUnavailable | QueryFailed:
    """SQLite's generic error (no such table, bad syntax) is about the query; others of its circumstances may pass."""
    of_circumstances = type(error).__name__ in _OF_CIRCUMSTANCES and result_code(error) != sqlite3.SQLITE_ERROR
    return (StoreUnavailable if gone or of_circumstances else QueryFailed)(str(error))
