"""How many connections there may be at once: beyond that, the one that was silent the longest makes room."""

import resource
from collections import OrderedDict
from typing import Final, Protocol

OTHER_FILES: Final = 100
"""Open files that are no connections: the database's, the broker's, the log."""

MOST_AT_ONCE: Final = 1024
"""Connections that the system holds for us until we take them; so many may come between two looks at their number."""


class Connection(Protocol):
    """A client's connection."""

    @property
    def idle(self) -> bool:
        """Whether nothing is asked on it just now."""

    def force_close(self) -> None:
        """Ends it."""


class Connections:
    """Those that there are, the one that was silent the longest first: as many as are wanted and affordable."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._known: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def opened(self, connection: Connection) -> None:
        """A new one; where there are too many, idle ones are closed for it, or else it is."""
        self._known[connection] = None
        # Asked anew each time: the limit may have changed, and an event loop that has reached it takes no connection.
        excess = len(self._known) - affordable(self._wanted, open_files())
        for _ in range(excess):
            found = self._silent_the_longest(connection)
            found.force_close()
            if found is connection:
                return

    def spoke(self, connection: Connection) -> None:
        """It has been answered."""
        if connection in self._known:
            self._known.move_to_end(connection)

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self._known.pop(connection, None)

    def _silent_the_longest(self, newest: Connection) -> Connection:
        for _ in range(len(self._known)):
            found = next(iter(self._known))
            self._known.move_to_end(found)
            if found.idle and found is not newest:
                del self._known[found]
                return found
        del self._known[newest]
        return newest


def open_files() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft


def raise_open_files(connections: int) -> None:
    """Lets this process have as many files open as so many connections need, where the system lets it."""
    wanted = connections + MOST_AT_ONCE + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))


def at_once(files: int) -> int:
    """How many connections may come at once, where so many files may be open."""
    return max(8, min(MOST_AT_ONCE, files // 8))


def affordable(wanted: int, files: int) -> int:
    """How many connections there may be: no more than wanted, nor than so many open files allow."""
    return min(wanted, max(files - at_once(files) - OTHER_FILES, files // 4))
