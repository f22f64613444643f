"""Time stands still here until a test moves it."""

import pytest

from tests.support.frozen_clock import FrozenClock
from tests.support.inbox import Inbox


@pytest.fixture
def clock() -> FrozenClock:
    """The time of `store`."""
    return FrozenClock()


@pytest.fixture
def inbox() -> Inbox:
    """A consumer that settles nothing by itself."""
    return Inbox()
