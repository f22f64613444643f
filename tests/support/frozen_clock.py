"""Time that stands still until a test moves it."""

from taskqueue.clock import milliseconds

START = 1_700_000_000_000


class FrozenClock:
    """A clock for the system under test."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        """The present instant, as `clock.Clock` has it."""
        return self.now

    def elapsed(self) -> float:
        """The seconds that went by, as `clock.Elapsed` has it: here, time goes by and nobody sets the clock."""
        return self.now / 1000

    def advance(self, seconds: float) -> int:
        """Moves time on, and answers the new instant."""
        self.now += milliseconds(seconds)
        return self.now
