"""A clock that jumps ahead, of one process or of the whole machine, takes no task from a worker that lives."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from taskqueue import events
from taskqueue.store.doubt import JUMP_SECONDS, SILENT_SECONDS
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.store.under_way import Lease
from taskqueue_worker.running import CHALLENGE_SECONDS, RENEW_SECONDS
from tests.support.frozen_clock import FrozenClock
from tests.support.stored import DISPATCH_LEASE, LEASE, pending, row, running

MAX_ATTEMPTS = 3
HOUR = 3600
ROUNDS = 40
"""Seconds: more than a lease."""


class World:
    """Time goes by for everybody; clocks may be set."""

    def __init__(self, clock: FrozenClock) -> None:
        self.of_worker = clock
        self.of_sweeper = FrozenClock(clock.now)
        self._gone_by = 0.0

    def elapsed(self) -> float:
        """The seconds that went by."""
        return self._gone_by

    def pass_second(self) -> None:
        """A second goes by."""
        self._gone_by += 1
        self.of_worker.advance(1)
        self.of_sweeper.advance(1)


@pytest.fixture
def world(clock: FrozenClock) -> World:
    """In which all clocks are right."""
    return World(clock)


@pytest.fixture
async def sweeper(database: Path, world: World) -> AsyncIterator[TaskStore]:
    """The store of a process with a clock of its own, which sweeps."""
    async with open_store(database, world.of_sweeper, world.elapsed) as opened:
        yield opened


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_clock_that_steps_ahead_costs_no_live_worker_its_task(
    store: TaskStore, sweeper: TaskStore, database: Path, world: World, *, everywhere: bool
) -> None:
    """Not at once, and not later, though by the one process's clock every lease ran out long ago.

    The task of a worker that is gone comes back all the same, as soon as it has been silent for a challenge's time.
    """
    await running(store, "live")
    await running(store, "dead")

    world.of_sweeper.advance(HOUR)
    if everywhere:
        world.of_worker.advance(HOUR)
    with capture_logs() as log:
        taken_at = []
        for second in range(ROUNDS):
            taken = await sweeper.take_due(DISPATCH_LEASE * 1000, MAX_ATTEMPTS, 10)
            taken_at += [(ready.payload.id, second) for ready in taken.ready]
            world.pass_second()
            await store.renew(Lease("live", 1, world.of_worker() + LEASE))

    assert taken_at == [("dead", SILENT_SECONDS)]
    assert (row(database, "live")["status"], row(database, "live")["attempt"]) == ("running", 1)
    assert [entry["seconds"] for entry in log if entry.get("name") == events.CLOCK_JUMPED.name] == [HOUR]


async def test_what_waits_is_taken_by_the_clock_as_ever(store: TaskStore, sweeper: TaskStore, world: World) -> None:
    """Early, where the clock is ahead; a task is no worse for it."""
    await pending(store, "waits", due_at=world.of_worker() + HOUR * 1000)
    world.of_sweeper.advance(HOUR)

    taken = await sweeper.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, 10)

    assert [ready.payload.id for ready in taken.ready] == ["waits"]


@pytest.mark.parametrize("step", [-HOUR, JUMP_SECONDS - 0.5])
async def test_a_clock_that_is_set_back_or_a_little_ahead_is_believed(
    store: TaskStore, sweeper: TaskStore, database: Path, world: World, step: float
) -> None:
    """A lease that has run out by it has run out: its end is not waited for twice."""
    await running(store, "dead")
    world.of_sweeper.advance(step)
    await sweeper.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, 10)

    due_at = row(database, "dead")["due_at"]
    while world.of_sweeper() < due_at:
        world.pass_second()
    taken = await sweeper.take_due(DISPATCH_LEASE, MAX_ATTEMPTS, 10)

    assert [ready.payload.id for ready in taken.ready] == ["dead"]


def test_silence_is_as_long_as_a_challenge() -> None:
    """Several renewals: a live worker shows itself meanwhile."""
    assert SILENT_SECONDS == CHALLENGE_SECONDS >= 3 * RENEW_SECONDS
