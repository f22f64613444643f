"""Faults of the network between the services and RabbitMQ."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from faults.scene import Scene
from faults.schedule import Fault
from faults.stack import ComposeStack

Happening = Callable[[Scene[ComposeStack]], AbstractContextManager[None]]


def cut(service: str) -> Happening:
    """One container of `service` is in no network with RabbitMQ; its connections are not closed, they fall silent."""

    @contextmanager
    def happening(scene: Scene[ComposeStack]) -> Iterator[None]:
        network = f"{scene.system.project}_broker"
        struck = scene.system.container(service, scene.random.choice((1, 2)))
        scene.strike(struck.removeprefix(f"{scene.system.project}-"))
        scene.system.engine("network disconnect", network, struck)
        yield
        scene.system.engine("network connect", network, struck)
        scene.system.find_apis()

    return happening


def toxic(link: str, kind: str) -> Happening:
    """All connections between `link` and RabbitMQ are as bad as the proxy makes them."""

    @contextmanager
    def happening(scene: Scene[ComposeStack]) -> Iterator[None]:
        scene.strike()
        scene.system.toxic(link, kind)
        yield
        scene.system.toxic(link, "none")

    return happening


BROKER_NOTICES: Final = (33.0, 38.0)
"""Two heartbeats that do not come (15 s each): then RabbitMQ gives a silent connection up."""

FAULTS: Final = (
    Fault("worker-cut-off", cut("worker"), 6, 9),
    Fault("worker-half-open", cut("worker"), *BROKER_NOTICES),
    Fault("api-cut-off", cut("api"), 6, 9),
    Fault("worker-hears-nothing", toxic("worker", "stall-down"), 6, 9),
    Fault("worker-unheard", toxic("worker", "stall-up"), 6, 9),
    Fault("api-hears-nothing", toxic("api", "stall-down"), 6, 9),
    Fault("api-unheard", toxic("api", "stall-up"), 6, 9),
    Fault("worker-slow-line", toxic("worker", "slow")),
    Fault("api-slow-line", toxic("api", "slow")),
    Fault("worker-sliced", toxic("worker", "slice")),
    Fault("api-sliced", toxic("api", "slice")),
    Fault("worker-resets", toxic("worker", "reset")),
    Fault("api-resets", toxic("api", "reset")),
)
