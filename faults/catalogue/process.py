"""Faults of one process over a SQLite file, for machines without Docker."""

import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from faults.catalogue.database import failures_at_once
from faults.commands import lock_held, run
from faults.scene import Scene
from faults.schedule import Fault
from faults.single import SingleProcess
from faults.stack import BESIDE

AT_WORK: Final = 16
FULL: Final = 4096
"""A size that the database and its log have long passed: not a byte more can be written to their ends."""


@contextmanager
def killed(scene: Scene[SingleProcess]) -> Iterator[None]:
    """Kill -9, in the middle of tasks."""
    _give_work(scene)
    scene.strike()
    scene.system.signal(signal.SIGKILL)
    scene.system.ended()
    yield
    scene.system.up()


@contextmanager
def stopped(scene: Scene[SingleProcess]) -> Iterator[None]:
    """SIGTERM, in the middle of tasks."""
    _give_work(scene)
    _stop(scene)
    yield
    scene.system.up()


@contextmanager
def paused(scene: Scene[SingleProcess]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT after a while."""
    scene.strike()
    scene.system.signal(signal.SIGSTOP)
    yield
    scene.system.signal(signal.SIGCONT)


@contextmanager
def locked(scene: Scene[SingleProcess]) -> Iterator[None]:
    """A second process holds the write lock."""
    with lock_held(sys.executable, str(BESIDE / "hold_lock.py"), str(scene.system.database)):
        scene.strike()
        yield


@contextmanager
def disk_full(scene: Scene[SingleProcess]) -> Iterator[None]:
    """No file may grow."""
    scene.strike()
    scene.system.allow_file_size(FULL)
    yield
    scene.system.allow_file_size(resource.RLIM_INFINITY)


@contextmanager
def migrates_at_once(scene: Scene[SingleProcess]) -> Iterator[None]:
    """Stopped, and three migrates start together: each exits 0, and changes nothing."""
    _stop(scene)
    migrate = (sys.executable, "-m", "taskqueue_migrate")
    scene.failures += failures_at_once(lambda: run(*migrate, environment=scene.system.environment))
    yield
    scene.system.up()


def _give_work(scene: Scene[SingleProcess]) -> None:
    scene.load.burst("linger", AT_WORK)
    time.sleep(scene.random.uniform(0.3, 0.9))


def _stop(scene: Scene[SingleProcess]) -> None:
    scene.strike()
    scene.system.signal(signal.SIGTERM)
    if (code := scene.system.ended()) != 0:
        scene.failures.append(f"it ended with {code} after SIGTERM")


FAULTS: Final = (
    Fault("killed", killed, 0.5, 3),
    Fault("stopped", stopped, 0.5, 3),
    Fault("paused", paused, 2, 6),
    Fault("database-locked", locked, 2, 9),
    Fault("disk-full", disk_full, 2, 5),
    Fault("three-migrates", migrates_at_once, 0.2, 0.5),
)
