"""Putting a worker together from its collaborators: the same for the service and for embedded mode."""

import os
import socket

from taskqueue.broker.contract import Broker
from taskqueue.clock import Clock, milliseconds
from taskqueue.store.tasks import TaskStore
from taskqueue.sweep import DeliveryLog
from taskqueue_worker.builtin import builtin_registry
from taskqueue_worker.calling import Calls
from taskqueue_worker.direct import DirectSupply
from taskqueue_worker.discovery import discover
from taskqueue_worker.execution import Execution
from taskqueue_worker.gate import Gate
from taskqueue_worker.handling import Handling
from taskqueue_worker.ledger import Ledger
from taskqueue_worker.presence import Presence
from taskqueue_worker.running import RunningAttempts
from taskqueue_worker.settings import WorkSettings
from taskqueue_worker.worker import Worker


def assemble_worker(
    broker: Broker, store: TaskStore, deliveries: DeliveryLog, clock: Clock, settings: WorkSettings
) -> Worker:
    """A worker with the built-in actions and those that it discovers. Raises InvalidSettings where one is unusable."""
    registry = builtin_registry(settings.simulated_work_seconds, settings.unknown_action)
    discover(registry, settings.action_modules)
    running = RunningAttempts(store, clock, milliseconds(settings.lease_seconds), worker_name())
    handling = Handling(registry, running, Calls(), clock, settings.task_timeout_seconds)
    ledger = Ledger(store, clock, worker_name(), registry, settings)
    presence = Presence(store, clock, worker_name(), settings.concurrency, registry)
    direct = DirectSupply(store, clock, settings.max_attempts)
    execution = Execution(ledger, handling, deliveries, direct, Gate(settings.concurrency))
    return Worker(broker, execution, handling, presence, settings)


def worker_name() -> str:
    """What this process is called in the store and in RabbitMQ's list of connections."""
    return f"taskqueue-worker {socket.gethostname()} {os.getpid()}"
