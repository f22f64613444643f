"""Time stands still for the stores here, and a second store is on the same file, as another process has it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskqueue.store.tasks import TaskStore, open_store
from tests.support.frozen_clock import FrozenClock
from tests.support.inbox import Inbox


@pytest.fixture
def clock() -> FrozenClock:
    """The time of `store` and of `other_store`."""
    return FrozenClock()


@pytest.fixture
async def other_store(database: Path, clock: FrozenClock) -> AsyncIterator[TaskStore]:
    """A store on the file of `store`, with connections of its own."""
    async with open_store(database, clock, clock.elapsed) as opened:
        yield opened


@pytest.fixture
def inbox() -> Inbox:
    """A consumer that settles nothing by itself."""
    return Inbox()
