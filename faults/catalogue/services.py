"""Faults of the services themselves: killed, stopped, paused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from faults.scene import Scene
from faults.schedule import Fault, Recovery
from faults.stack import ComposeStack

AT_WORK: Final = 16
"""So many tasks are at work, or wait, when a worker is struck; each of them takes a second."""

OTHER_TAKES_OVER: Final = 5.0


@contextmanager
def worker_killed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9 of one worker in the middle of its tasks; the other one is there."""
    struck = _one_of(scene, "worker")
    _give_work(scene)
    scene.strike(struck.removeprefix(f"{scene.system.project}-"))
    scene.system.engine("kill --signal KILL", struck)
    yield
    scene.system.start(struck)


@contextmanager
def all_workers_killed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9 of every worker: tasks wait until they are back."""
    workers = [scene.system.container("worker", number) for number in (1, 2)]
    _give_work(scene)
    scene.strike()
    scene.system.engine("kill --signal KILL", *workers)
    yield
    scene.system.start(*workers)


@contextmanager
def api_killed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9 of one API right after many requests, none of which has reached RabbitMQ: others hand them out."""
    struck = _one_of(scene, "api")
    scene.system.toxic("api", "stall-up")
    scene.load.burst("double", AT_WORK)
    time.sleep(1)
    scene.strike(struck.removeprefix(f"{scene.system.project}-"))
    scene.system.engine("kill --signal KILL", struck)
    scene.system.toxic("api", "reset")  # what was held on its way is gone, too
    scene.system.toxic("api", "none")
    yield
    scene.system.start(struck)


@contextmanager
def everything_killed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9 of everything at once, as by a power cut, but for the disk."""
    everything = [scene.system.container(service, number) for service in ("worker", "api") for number in (1, 2)]
    everything.append(scene.system.container("rabbitmq"))
    _give_work(scene)
    scene.strike()
    scene.system.engine("kill --signal KILL", *everything)
    yield
    scene.system.start(*everything)


@contextmanager
def worker_stopped(scene: Scene[ComposeStack]) -> Iterator[None]:
    """SIGTERM to one worker at work: it finishes or hands back, and ends."""
    struck = _one_of(scene, "worker")
    _give_work(scene)
    _stop(scene, struck)
    yield
    scene.system.start(struck)


@contextmanager
def api_stopped(scene: Scene[ComposeStack]) -> Iterator[None]:
    """SIGTERM to one API under load."""
    struck = _one_of(scene, "api")
    scene.load.burst("double", AT_WORK)
    _stop(scene, struck)
    yield
    scene.system.start(struck)


@contextmanager
def worker_paused(scene: Scene[ComposeStack]) -> Iterator[None]:
    """One worker does nothing for a while, and goes on as if nothing had been."""
    with _paused(scene, _one_of(scene, "worker")):
        yield


@contextmanager
def api_paused(scene: Scene[ComposeStack]) -> Iterator[None]:
    """One API does nothing for a while."""
    with _paused(scene, _one_of(scene, "api")):
        yield


@contextmanager
def worker_takes_itself_for_alive(scene: Scene[ComposeStack]) -> Iterator[None]:
    """A paused worker loses its connection: its tasks run elsewhere, and then it wakes up with results in its hands."""
    struck = _one_of(scene, "worker")
    _give_work(scene)
    with _paused(scene, struck):
        scene.system.toxic("worker", "reset")
        scene.system.toxic("worker", "none")
        yield


@contextmanager
def only_worker_crashes(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9 of the process, where there is no other worker: the engine starts it again at once."""
    crashes, other = "worker-1", scene.system.container("worker", 2)
    scene.system.engine("stop --time 30", other)
    _give_work(scene)
    scene.strike(crashes)
    scene.system.inside("worker", 1, "sh", "-c", "kill -KILL -1 || true")
    yield
    scene.system.start(other)


@contextmanager
def worker_poisoned(scene: Scene[ComposeStack]) -> Iterator[None]:
    """A task kills its worker each time that it runs: it ends failed, and its neighbours are completed."""
    _give_work(scene)
    scene.strike()
    scene.load.burst("poison", 1)
    yield


def _one_of(scene: Scene[ComposeStack], service: str) -> str:
    return scene.system.container(service, scene.random.choice((1, 2)))


def _give_work(scene: Scene[ComposeStack]) -> None:
    scene.load.burst("linger", AT_WORK)
    time.sleep(scene.random.uniform(0.3, 0.9))


def _stop(scene: Scene[ComposeStack], struck: str) -> None:
    scene.strike(struck.removeprefix(f"{scene.system.project}-"))
    scene.system.engine("stop --time 30", struck)
    code = scene.system.inspect(struck, "{{.State.ExitCode}}")
    if code != "0":
        scene.failures.append(f"{struck} ended with {code} after SIGTERM")


@contextmanager
def _paused(scene: Scene[ComposeStack], struck: str) -> Iterator[None]:
    scene.strike(struck.removeprefix(f"{scene.system.project}-"))
    scene.system.engine("pause", struck)
    yield
    scene.system.engine("unpause", struck)


FAULTS: Final = (
    Fault("worker-killed", worker_killed, 6, 8, Recovery.RERUN, OTHER_TAKES_OVER),
    Fault("all-workers-killed", all_workers_killed, 1, 3),
    Fault("only-worker-crashes", only_worker_crashes, 9, 10, Recovery.RERUN),
    Fault("worker-stopped", worker_stopped, 1, 4),
    Fault("worker-paused", worker_paused, 3, 8),
    Fault("worker-zombie", worker_takes_itself_for_alive, 7, 9),
    Fault("worker-poisoned", worker_poisoned, 8, 12),
    Fault("api-killed", api_killed, 10, 11, Recovery.BEGUN, 10),
    Fault("api-stopped", api_stopped, 1, 4),
    Fault("api-paused", api_paused, 3, 6),
    Fault("everything-killed", everything_killed, 1, 4),
)
