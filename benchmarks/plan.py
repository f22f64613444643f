"""How much is measured: the same scenarios at three sizes."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Plan:
    """Sizes. Durations are in seconds, rates per second; the connections are those of the load generator.

    A turn is waited with, for `quiet_seconds`, while the machine is busy, and taken again where it was disturbed.
    """

    scenarios: tuple[str, ...] = ("core", "growth", "backlog", "scaled", "limits")
    rounds: int = 3
    turns_again: int = 2
    quiet_seconds: float = 60.0
    connections: int = 32
    post_seconds: float = 8.0
    end_to_end_seconds: float = 8.0
    drain_seconds: float = 60.0
    latency_rate: float = 50.0
    latency_seconds: float = 10.0
    idle_seconds: float = 20.0
    rows_before: tuple[int, int] = (1_000, 1_000_000)
    reads: int = 300
    backlog: int = 100_000
    backlog_seconds: float = 30.0
    scaled_seconds: float = 8.0
    limit_seconds: float = 3.0


FULL: Final = Plan()
QUICK: Final = Plan(
    scenarios=("core", "growth", "limits"),
    rounds=1,
    turns_again=0,
    quiet_seconds=0.0,
    post_seconds=1.5,
    end_to_end_seconds=1.5,
    drain_seconds=8.0,
    latency_seconds=2.5,
    idle_seconds=2.0,
    rows_before=(1_000, 50_000),
    reads=100,
    limit_seconds=0.3,
)
TINY: Final = Plan(
    rounds=1,
    turns_again=0,
    quiet_seconds=0.0,
    connections=4,
    post_seconds=0.5,
    end_to_end_seconds=0.5,
    drain_seconds=10.0,
    latency_seconds=0.5,
    idle_seconds=0.5,
    rows_before=(200, 1_000),
    reads=20,
    backlog=200,
    backlog_seconds=2.0,
    scaled_seconds=0.5,
    limit_seconds=0.1,
)
PLANS: Final = {"full": FULL, "quick": QUICK, "tiny": TINY}
