"""What the endpoints work with."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from taskqueue.broker.contract import Broker
from taskqueue.clock import Clock
from taskqueue.dispatch import Dispatcher
from taskqueue.store.tasks import TaskStore


@dataclass
class Collaborators:
    """The store, the broker, and the way from one to the other. `draining` turns true when the process stops."""

    store: TaskStore
    broker: Broker
    dispatcher: Dispatcher
    clock: Clock
    draining: bool = False


COLLABORATORS: Final = web.AppKey("collaborators", Collaborators)
