"""What a contender is: how its processes are started, and what it does and does not do for the user."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Place:
    """Where one run of a contender happens: its folder, its RabbitMQ, its API's port."""

    folder: Path
    broker_url: str
    port: int

    @property
    def database(self) -> Path:
        """The SQLite file, in which everybody keeps results."""
        return self.folder / "tasks.db"


@dataclass(frozen=True)
class Command:
    """A process to start."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What the table of guarantees says."""

    api: str
    worker: str
    before_202: str
    message: str
    queue: str
    result: str


@dataclass(frozen=True)
class Contender:
    """One way to run tasks. `worker` is None where the API's process works too."""

    name: str
    title: str
    kind: Literal["ours", "peer", "baseline"]
    layout: Literal["ours", "peers"]
    facts: Facts
    prepare: Callable[[Place], Command | None]
    api: Callable[[Place], Command]
    worker: Callable[[Place], Command] | None
