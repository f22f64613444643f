"""What the runner calls recovered."""

from typing import Any

import pytest

from faults.asks import Acceptance, Ask, Expected
from faults.reading import Seen
from faults.recovery import recovered, slow_answer
from faults.scene import Scene
from faults.schedule import Recovery


class Asked:
    """A load of given requests."""

    def __init__(self, *asks: Ask) -> None:
        self.asks = list(asks)


def _ask(task_id: str, at: int, *, prompt: bool = True) -> Ask:
    return Ask("", b"", Expected("completed"), sent_at=at, prompt=prompt, accepted=[Acceptance(task_id, at)])


@pytest.mark.parametrize(("recovery", "seconds"), [
    (Recovery.DONE, 4),
    (Recovery.BEGUN, 3),
    (Recovery.RERUN, 7),
    (Recovery.DELIVERED, 1.5),
])  # fmt: skip
def test_recovery_is_measured_by_what_tasks_show(recovery: Recovery, seconds: float) -> None:
    """From the healing or the strike, to the last task that was there before."""
    asks = (_ask("one", 900), _ask("two", 4_000), _ask("late", 6_000), _ask("slow", 900, prompt=False))
    seen = {
        "one": Seen("completed", begun=(4_000,), ended_at=4_100),
        "two": Seen("completed", outcomes=("lost", "completed"), begun=(5_000, 8_000), ended_at=9_000),
        "late": Seen("completed", begun=(20_000,), ended_at=20_000),
        "slow": Seen("completed", begun=(30_000,), ended_at=30_000),
        "message": Seen("completed", begun=(7_500,), ended_at=8_000),
    }
    scene: Scene[Any] = Scene(None, Asked(*asks), None, struck_at=1_000, delivery=("message", 6_000))  # type: ignore[arg-type]

    assert recovered(recovery, scene, seen, healed=5_000) == seconds


def test_where_nothing_was_cut_off_nothing_had_to_recover() -> None:
    """A dash is printed, and no zero that looks like a measurement."""
    scene: Scene[Any] = Scene(None, Asked(_ask("one", 900)), None, struck_at=1_000)  # type: ignore[arg-type]

    assert recovered(Recovery.RERUN, scene, {"one": Seen("completed", begun=(1_000,))}, healed=5_000) is None


def test_how_long_answers_took_is_told_of_those_that_came_at_once() -> None:
    """The 99th of a hundred; what was refused first says nothing of the answer's own time."""
    asks = [Ask("", b"", Expected("completed"), sent_at=1, accepted=[Acceptance("", 1 + n)]) for n in range(200)]
    refused = Ask("", b"", Expected("completed"), sent_at=1, accepted=[Acceptance("", 90_000)], refusals=1)

    assert slow_answer([*asks, refused]) == 0.198
    assert slow_answer([]) is None
