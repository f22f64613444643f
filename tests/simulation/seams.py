"""Where the simulation takes the place of the world around the product: chance, ids, the log, names and actions."""

import gc
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

from taskqueue import events, requests
from taskqueue.actions.registry import Registry
from taskqueue_worker import assembly
from tests.simulation.actions import registry
from tests.simulation.loop import LANE
from tests.simulation.trace import Trace


class Log:
    """Where the product's log goes: to the trace of the history that is played."""

    trace: Trace | None = None

    def emit(self, event: events.LogEvent, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """See `events.emit`."""
        if self.trace is not None:
            self.trace.note(f"log: {event.name}", *fields.items(), *([repr(exc_info)] if exc_info else []))


@contextmanager
def in_the_place_of_the_world(seed: int) -> Iterator[Log]:
    """Whatever the product leaves to chance comes from the seed, and what it logs can be heard."""
    ids = Random(seed)

    def uuid4() -> UUID:
        return UUID(int=ids.getrandbits(128), version=4)

    log = Log()
    random.seed(seed)  # of which the product's jitter is drawn
    with (
        _collected_at_its_end(),
        patch.object(requests, "uuid4", uuid4),
        patch.object(events, "emit", log.emit),
        patch.object(assembly, "worker_name", _name),
        patch.object(assembly, "builtin_registry", _actions),
        patch.object(assembly, "discover", _discover_nothing),
    ):
        yield log
        log.trace = None
        gc.collect()
        gc.collect()  # what came to life again at its end
    random.seed()


@contextmanager
def _collected_at_its_end() -> Iterator[None]:
    """What a history leaves behind goes at its end, and not at any time that the seed does not know of.

    Processes that were killed never come to their `finally`, and Python complains of each.
    """
    gc.disable()
    gc.freeze()  # what was there before is looked at no more: the collection would take longer than the history
    hook, sys.unraisablehook = sys.unraisablehook, _keep_quiet
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that nobody has awaited this or that
            yield
    finally:
        sys.unraisablehook = hook
        gc.unfreeze()
        gc.enable()


def _keep_quiet(_: object) -> None:
    """It was to be expected."""


def _name() -> str:
    return LANE.get().name


def _actions(*_: object) -> Registry:
    return registry()


def _discover_nothing(*_: object) -> None:
    """All actions are there already."""
