"""The Pythons that contenders run in; `make bench` makes them and says where they are."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Environments:
    """A Python for each kind of contender."""

    ours: str = sys.executable
    embedded: str = sys.executable
    peers: str = sys.executable
