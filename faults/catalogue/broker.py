"""Faults of RabbitMQ: gone, back, without its memory, without its queue."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from faults.asks import Ask, Expected
from faults.commands import wait_for
from faults.load import now
from faults.scene import Scene
from faults.schedule import Fault, Recovery
from faults.stack import ComposeStack

QUEUED_UP_SECONDS: Final = 3.0
PUBLISH_SECONDS: Final = 40.0
WATERMARK: Final = "512MiB"  # as in services/rabbitmq/taskqueue.conf


@contextmanager
def killed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Kill -9, and started again."""
    rabbitmq = scene.system.container("rabbitmq")
    scene.strike()
    scene.system.engine("kill --signal KILL", rabbitmq)
    yield
    _start(scene)


@contextmanager
def restarted(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Stopped in an orderly way, and started again."""
    scene.strike()
    scene.system.engine("stop --time 60", scene.system.container("rabbitmq"))
    yield
    _start(scene)


@contextmanager
def wiped(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Killed, with tasks in the queue, and started again without anything on its disk."""
    with _workers_paused(scene):
        scene.strike()
        scene.system.inside("rabbitmq", 1, "sh", "-c", "rm -rf /var/lib/rabbitmq/*")
        scene.system.engine("kill --signal KILL", scene.system.container("rabbitmq"))
    yield
    _start(scene)


@contextmanager
def paused(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Does nothing at all, with its connections open."""
    scene.strike()
    scene.system.engine("pause", scene.system.container("rabbitmq"))
    yield
    if (
        scene.system.inspect(scene.system.container("rabbitmq"), "{{.State.Paused}}") == "true"
    ):  # and not killed meanwhile
        scene.system.engine("unpause", scene.system.container("rabbitmq"))


@contextmanager
def purged(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Tasks are in the queue, and an operator empties it."""
    yield from _queue_lost(scene, scene.system.rabbitmq.purge)


@contextmanager
def deleted(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Tasks are in the queue, and an operator deletes it."""
    yield from _queue_lost(scene, scene.system.rabbitmq.delete)


@contextmanager
def out_of_memory(scene: Scene[ComposeStack]) -> Iterator[None]:
    """The memory alarm: RabbitMQ takes nothing from publishers, and answers nothing to them."""
    scene.strike()
    scene.system.inside("rabbitmq", 1, "rabbitmqctl", "set_vm_memory_high_watermark", "absolute", "1MB")
    yield
    scene.system.inside("rabbitmq", 1, "rabbitmqctl", "set_vm_memory_high_watermark", "absolute", WATERMARK)


@contextmanager
def locked_out(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Somebody changes the services' passwords, and closes every connection; later they are what they were."""
    services = ("api", "worker")
    passwords = {each: scene.system.inside(each, 1, "cat", "/run/broker/password").strip() for each in services}
    scene.strike()
    for each in services:
        scene.system.inside("rabbitmq", 1, "rabbitmqctl", "change_password", each, "another one")
    scene.system.inside("rabbitmq", 1, "rabbitmqctl", "close_all_connections", "locked out")
    yield
    for each in services:
        scene.system.inside("rabbitmq", 1, "rabbitmqctl", "change_password", each, passwords[each])


def _queue_lost(scene: Scene[ComposeStack], lose: Callable[[], None]) -> Iterator[None]:
    with _workers_paused(scene):
        yield
        scene.strike()
        lose()


@contextmanager
def _workers_paused(scene: Scene[ComposeStack]) -> Iterator[None]:
    """No worker takes anything, so that the queue fills up with what is posted meanwhile."""
    workers = [scene.system.container("worker", number) for number in (1, 2)]
    scene.system.engine("pause", *workers)
    try:
        time.sleep(QUEUED_UP_SECONDS)
        yield
    finally:
        scene.system.engine("unpause", *workers)


def _start(scene: Scene[ComposeStack]) -> None:
    """Starts RabbitMQ, and sends it a message, whose delivery shows when work comes through it again."""
    scene.system.start(scene.system.container("rabbitmq"))
    back, n = now(), scene.random.randrange(1000)
    task_id = str(uuid.UUID(int=scene.random.getrandbits(128), version=4))
    body = json.dumps({"id": task_id, "action": "double", "data": {"n": n}}).encode()
    wait_for(lambda: scene.system.rabbitmq.publish(body), PUBLISH_SECONDS, "a queue to publish to")
    scene.load.expect(Ask("", body, Expected("completed", {"output": 2 * n}), runs=1, prompt=False), task_id)
    scene.delivery = (task_id, back)


FAULTS: Final = (
    Fault("rabbitmq-killed", killed, 2, 8, Recovery.DELIVERED, 10),
    Fault("rabbitmq-restarted", restarted, 2, 8, Recovery.DELIVERED, 10),
    Fault("rabbitmq-wiped", wiped, 1, 4, Recovery.DELIVERED, 10),
    Fault("rabbitmq-paused", paused, 4, 12),
    Fault("queue-purged", purged, 1, 2, allowed=60),
    Fault("queue-deleted", deleted, 1, 2, allowed=60),
    Fault("password-changed", locked_out, 4, 8),
    Fault("memory-alarm", out_of_memory, 5, 9),
)
