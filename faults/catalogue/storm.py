"""Several faults at once: more than is promised to be survived, and a good way to find what nobody thought of."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from faults.catalogue import broker, database, network, services
from faults.scene import Scene
from faults.schedule import Fault
from faults.stack import ComposeStack

NOT_TOGETHER: Final = frozenset(
    {"queue-purged", "queue-deleted", "rabbitmq-wiped", "worker-half-open", "three-migrates"}
)
"""These pause or wait for what another fault may have taken away."""

GROUPS: Final = tuple(
    [fault for fault in faults if fault.name not in NOT_TOGETHER]
    for faults in (database.FAULTS, network.FAULTS, broker.FAULTS, services.FAULTS)
)
"""At most one of each, in this order; healed in the opposite one, so that what a fault needs is there again."""


@contextmanager
def storm(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Two to four faults, one upon another."""
    groups = sorted(scene.random.sample(range(len(GROUPS)), scene.random.choice((2, 3, 4))))
    chosen = [scene.random.choice(GROUPS[group]) for group in groups]
    with ExitStack() as together:
        for fault in chosen:
            together.enter_context(fault.happening(scene))
        scene.strike(" + ".join(fault.name for fault in chosen))
        yield


FAULTS: Final = (Fault("storm", storm, 3, 9),)
