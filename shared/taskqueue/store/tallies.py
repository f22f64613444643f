"""How many tasks were ever accepted, and how many of them are removed, counted in the transaction that does it.

An audit holds the rows against them: a row that is gone without having been removed is a task that was lost.
"""

from typing import Final

from sqlalchemy import Connection, update

from taskqueue.store.batch import Batch
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import tallies

ACCEPTED: Final = "accepted"
REMOVED: Final = "removed"

_counted = Batch("name", "more")
_COUNT: Final = BatchWrite(
    update(tallies).where(tallies.c.name == _counted["name"]).values(tally=tallies.c.tally + _counted["more"])
)


def count(connection: Connection, name: str, more: int) -> None:
    """Adds to a tally."""
    if more:
        _COUNT.run(connection, [(name, more)])
