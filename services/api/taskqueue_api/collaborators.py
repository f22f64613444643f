"""What the endpoints work with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from taskqueue.audit import Auditor
from taskqueue.broker.contract import Broker
from taskqueue.clock import Clock, milliseconds
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS, Dispatcher
from taskqueue.feed import Feed
from taskqueue.store.tasks import TaskStore
from taskqueue_api.backlog import Backlog
from taskqueue_api.budget import ByteBudget, Seats
from taskqueue_api.catalogue import Catalogue

BODIES_AT_WORK: Final = 2 * 1024 * 1024
"""Bytes of bodies that are parsed and recorded at once: 40 times as large in memory, if their senders mean harm."""


LISTENERS: Final = 1_000
"""Clients that wait for a task, or listen to events, at once; the setting says otherwise."""


@dataclass
class Collaborators:
    """The store, the broker, and the way from one to the other. `draining` turns true when the process stops.

    `max_attempts` is how often a task is tried that does not say it, nor its action.
    """

    store: TaskStore
    broker: Broker
    dispatcher: Dispatcher
    clock: Clock
    max_attempts: int = 5
    draining: bool = False
    bodies: ByteBudget = field(default_factory=lambda: ByteBudget(BODIES_AT_WORK))
    listeners: Seats = field(default_factory=lambda: Seats(LISTENERS))
    catalogue: Catalogue = field(init=False)
    at_stop: set[Callable[[], None]] = field(default_factory=set)
    feed: Feed = field(init=False)
    backlog: Backlog = field(init=False)
    auditor: Auditor = field(init=False)

    def __post_init__(self) -> None:
        """Catalogue, feed, backlog and auditor are of this store."""
        self.catalogue = Catalogue(self.store)
        self.feed = Feed(self.store)
        self.backlog = Backlog(self.store.waiting)
        self.auditor = Auditor(self.store, self.broker, self.clock, self.max_attempts)

    def first_due(self, now: int) -> int:
        """When a task that may begin at `now` (ms) is due, unless it is dispatched before: after a dispatcher's lease.

        Nobody dispatches while the broker is away: then at once, so that a worker takes it straight from the store.
        """
        return now + milliseconds(DISPATCH_LEASE_SECONDS) if self.broker.connected else now

    def drain(self) -> None:
        """The process stops: nothing new is begun, and nobody waits for what may come."""
        self.draining = True
        self.feed.end()
        for act in list(self.at_stop):
            act()


COLLABORATORS: Final = web.AppKey("collaborators", Collaborators)
