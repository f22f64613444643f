"""Everybody who takes part, in the order of the table."""

from collections.abc import Sequence

from benchmarks.contenders import ours, peers
from benchmarks.contenders.contender import Contender
from benchmarks.environments import Environments


def catalogue(environments: Environments, synchronous: str) -> Sequence[Contender]:
    """All contenders; peers keep their results with this `PRAGMA synchronous`."""
    return [
        peers.celery(environments, synchronous),
        peers.taskiq(environments, synchronous),
        peers.faststream(environments, synchronous),
        peers.dramatiq(environments, synchronous),
        peers.naive(environments, synchronous),
        ours.compose_shape(environments),
        ours.embedded(environments),
    ]
