"""Faults around the database: its lock held, its disk full, migrated by several at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from faults.commands import CommandFailed, lock_held
from faults.scene import Scene
from faults.schedule import Fault
from faults.stack import BESIDE, DATABASE, ComposeStack

MIGRATES: Final = 3
FILL: Final = "cat /dev/zero > /data/filler || true"


@contextmanager
def locked(scene: Scene[ComposeStack]) -> Iterator[None]:
    """A second process holds the write lock: longer, at times, than anybody waits for it."""
    script = (BESIDE / "hold_lock.py").read_text()
    beside = ("docker", "exec", "--interactive", scene.system.container("worker"))
    with lock_held(*beside, "python", "-c", script, DATABASE):
        scene.strike()
        yield


@contextmanager
def disk_full(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Not a byte more fits on the database's disk."""
    scene.strike()
    scene.system.inside("worker", 1, "sh", "-c", FILL)
    yield
    scene.system.inside("worker", 1, "rm", "/data/filler")


@contextmanager
def migrates_at_once(scene: Scene[ComposeStack]) -> Iterator[None]:
    """Three migrates start together, beside the services at work: each exits 0, and changes nothing."""
    scene.strike()
    scene.failures += failures_at_once(lambda: scene.system.compose("run", "--rm", "--no-deps", "-T", "migrate"))
    yield


def failures_at_once(migrate: Callable[[], object]) -> list[str]:
    """Calls `migrate` three times together; what went wrong with it."""

    def failure() -> str | None:
        try:
            migrate()
        except CommandFailed as error:
            return f"a migrate failed: {error}"
        return None

    with ThreadPoolExecutor(MIGRATES) as pool:
        ended = [pool.submit(failure) for _ in range(MIGRATES)]
    return [failed for each in ended if (failed := each.result())]


FAULTS: Final = (
    Fault("database-locked", locked, 2, 9),
    Fault("disk-full", disk_full, 2, 6),
    Fault("three-migrates", migrates_at_once, 0.5, 1),
)
