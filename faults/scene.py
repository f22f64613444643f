"""What a fault has at hand: the system that it strikes, the load that goes on meanwhile, and chance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Generic, Protocol, TypeVar

from faults.checker import Stored
from faults.load import Load, now
from faults.schedule import Fault


class System(Protocol):
    """A running task queue that may be harmed."""

    name: str
    faults: Sequence[Fault]

    def up(self) -> None:
        """Starts everything, and returns when it is ready."""

    def down(self) -> None:
        """Ends everything, and leaves nothing behind."""

    def urls(self) -> Sequence[str]:
        """Where APIs listen, or did when they were last known to."""

    def stored(self) -> Stored:
        """What is in the database."""

    def runs(self) -> Sequence[tuple[str, int]]:
        """Every run that an action has noted: task and attempt."""

    def buried(self) -> Sequence[bytes]:
        """What has come to the dead-letter queue since this was last asked."""

    def logs(self) -> str:
        """What every part has said, for whoever must find out why."""


AnySystem = TypeVar("AnySystem", bound=System)


@dataclass
class Scene(Generic[AnySystem]):
    """One round, as its fault sees it. A fault adds what it published and what it found to be wrong."""

    system: AnySystem
    load: Load
    random: Random
    malformed: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    delivery: tuple[str, int] | None = None
    """A message that was published when the broker was back: its id, and when that was (ms)."""

    struck: str = ""
    """What was hit, where there are several."""

    struck_at: int = 0
    """When it was hit (ms)."""

    def strike(self, what: str = "") -> None:
        """To be said right before the fault takes effect."""
        self.struck, self.struck_at = what or self.struck, now()


def runs_noted(log: Path) -> Sequence[tuple[str, int]]:
    """What the actions have written to their log."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(task_id, int(attempt)) for task_id, attempt in lines]
