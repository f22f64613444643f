"""Faults of other producers: messages that come again and again, that nobody can read, that are too large."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from faults.asks import Ask, Expected
from faults.scene import Scene
from faults.schedule import Fault
from faults.stack import ComposeStack

COPIES: Final = 30
HUGE: Final = 6 * 1024 * 1024
UNREADABLE: Final = (
    b"not JSON",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b"{}",
    b'{"id": 7, "action": "double"}',
    b'{"id": "an id", "action": "double", "data": [1]}',
    b'{"id": "an id", "action": "", "data": {}}',
    b'{"id": "an id", "action": "double", "data": {"n": NaN}}',
    b'{"id": "an id", "action": "double", "data": {"n": "\\ud800"}}',
    b'{"id": "an id", "action": "double", "data": {}} trailing',
    b'{"id": "an id", "action": "double", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
)


@contextmanager
def duplicated(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Messages come many times over: of a new task, and of tasks that the API has accepted."""
    n = scene.random.randrange(1000)
    task_id = str(uuid.UUID(int=scene.random.getrandbits(128), version=4))
    body = json.dumps({"id": task_id, "action": "double", "data": {"n": n}}).encode()
    scene.strike()
    _publish(scene, *[body] * COPIES)
    scene.load.expect(Ask("", body, Expected("completed", {"output": 2 * n}), runs=1), task_id)
    for one in [each for each in scene.load.asks if each.key and each.accepted][-COPIES:]:
        request = json.loads(one.body)
        message = {"id": one.accepted[0].task_id, "action": request["action"], "data": request["data"]}
        _publish(scene, json.dumps(message).encode())
    yield


@contextmanager
def malformed(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Messages that cannot be read: each goes to the dead letters as it is, and no worker minds."""
    scene.malformed += UNREADABLE
    scene.strike()
    _publish(scene, *UNREADABLE)
    yield


@contextmanager
def huge(scene: Scene[ComposeStack]) -> Iterator[None]:
    """A message larger than any that a service sends."""
    body = scene.random.randbytes(HUGE)
    scene.malformed.append(body)
    scene.strike()
    _publish(scene, body)
    yield


def _publish(scene: Scene[ComposeStack], *bodies: bytes) -> None:
    scene.failures += [
        f"RabbitMQ did not take {body[:60]!r}" for body in bodies if not scene.system.rabbitmq.publish(body)
    ]


FAULTS: Final = (
    Fault("duplicates", duplicated, 0.5, 1),
    Fault("malformed-messages", malformed, 0.5, 1),
    Fault("huge-message", huge, 0.5, 1),
)
