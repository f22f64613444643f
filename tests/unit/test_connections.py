"""The bound on connections: who makes room for whom, and what a process can afford."""

import resource
from dataclasses import dataclass

import pytest

from taskqueue_api.connections import OTHER_FILES, Connections, affordable, at_once


@dataclass(eq=False)
class Line:
    """A connection."""

    idle: bool = True
    open: bool = True

    def force_close(self) -> None:
        """Ends it."""
        self.open = False


def _opened(connections: Connections, *lines: Line) -> list[Line]:
    for line in lines:
        connections.opened(line)
    return list(lines)


def test_up_to_the_bound_all_stay() -> None:
    """Nobody is closed for nothing."""
    lines = _opened(Connections(3), Line(), Line(), Line())

    assert all(line.open for line in lines)


def test_beyond_it_the_one_that_was_silent_the_longest_goes() -> None:
    """A connection that has just been answered is kept for its client's next request."""
    connections = Connections(3)
    first, second, third = _opened(connections, Line(), Line(), Line())
    connections.spoke(first)

    [fourth] = _opened(connections, Line())

    assert [line.open for line in (first, second, third, fourth)] == [True, False, True, True]
    assert len(connections) == 3


def test_who_is_being_served_is_never_closed() -> None:
    """Where all are, the new one is."""
    connections = Connections(2)
    busy = _opened(connections, Line(idle=False), Line(idle=False))

    [new] = _opened(connections, Line())

    assert all(line.open for line in busy)
    assert not new.open
    assert len(connections) == 2


def test_when_less_can_be_afforded_than_before_more_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on open files may change while the process runs."""
    connections = Connections(1_000)
    lines = _opened(connections, *(Line() for _ in range(40)))
    monkeypatch.setattr("taskqueue_api.connections.open_files", lambda: 40)

    _opened(connections, Line())

    assert len(connections) == affordable(1_000, 40) == 10
    assert [line.open for line in lines] == [False] * 31 + [True] * 9


def test_one_that_went_by_itself_makes_room() -> None:
    """And may go twice."""
    connections = Connections(2)
    first, second = _opened(connections, Line(), Line())
    connections.closed(first)
    connections.closed(first)

    [third] = _opened(connections, Line())

    assert (second.open, third.open, len(connections)) == (True, True, 2)


def test_one_that_was_closed_is_not_known_again() -> None:
    """Its last answer may come after its end."""
    connections = Connections(1)
    [first, _] = _opened(connections, Line(), Line())

    connections.spoke(first)

    assert len(connections) == 1


@pytest.mark.parametrize("files", [16, 64, 256, 1024, 20_000, 2**20])
def test_there_is_always_room_for_other_files(files: int) -> None:
    """The database must be opened, however many clients come at once."""
    most = affordable(10**6, files)

    assert most >= 4
    assert most + at_once(files) <= files
    assert most + at_once(files) + OTHER_FILES <= files or files < 256
    assert affordable(5, files) <= 5


def test_this_machine_allows_something() -> None:
    """What the limit of this process is, is read as a number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert soft == resource.RLIM_INFINITY or affordable(10**9, soft) < soft
