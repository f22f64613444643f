"""What the database's own errors mean to the rest of the system."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from taskqueue.errors import QueryFailed, RowDamaged, StoreUnavailable
from taskqueue.store.sqlite import result_code


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the database driver's errors into StoreUnavailable (may pass: locked, full, gone) or QueryFailed."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise (QueryFailed if _is_about_the_query(error) else StoreUnavailable)(_cause(error)) from error
    except DBAPIError as error:
        raise (StoreUnavailable if error.connection_invalidated else QueryFailed)(_cause(error)) from error
    except SQLAlchemyError as error:
        raise QueryFailed(_cause(error)) from error
    except OSError as error:
        raise StoreUnavailable(str(error)) from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a damaged row brings about into RowDamaged; `what` names the row."""
    try:
        yield
    except Exception as error:
        raise RowDamaged(f"{what}: {error}") from error


def _is_about_the_query(error: SQLAlchemyError) -> bool:
    """Whether SQLite calls it a generic error (no such table, bad syntax), not one of its own circumstances."""
    return result_code(getattr(error, "orig", None)) == sqlite3.SQLITE_ERROR


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)
