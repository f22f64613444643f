"""How many tasks were ever accepted, and how many of them are removed, counted in the transaction that does it.

An audit holds the rows against them: a row that is gone without having been removed is a task that was lost.
"""

from typing import Final

from sqlalchemy import Connection, bindparam, update

from taskqueue.store.tables import tallies

ACCEPTED: Final = "accepted"
REMOVED: Final = "removed"

_COUNT: Final = (
    update(tallies).where(tallies.c.name == bindparam("tally_of")).values(tally=tallies.c.tally + bindparam("more"))
)


def count(connection: Connection, name: str, more: int) -> None:
    """Adds to a tally."""
    if more:
        connection.execute(_COUNT, {"tally_of": name, "more": more})
