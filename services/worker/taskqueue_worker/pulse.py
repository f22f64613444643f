"""Whether the event loop still turns. A thread looks, since nothing on a loop that is blocked can.

While an async handler blocks it, this process renews no lease and answers no heartbeat: RabbitMQ cuts it off, its tasks
are done again by others, and what it makes of them later is not recorded. So the log names who it is.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from taskqueue import events

LOOK_SECONDS: Final = 1.0
BLOCKED_SECONDS: Final = 2.0
"""Less than the shortest time after which a silent worker may lose a task: a challenge."""


@contextmanager
def watching_pulse() -> Iterator[None]:
    """Warns, once each time, of whatever blocks the running loop, for as long as the block runs."""
    pulse = _Pulse(asyncio.get_running_loop())
    thread = threading.Thread(target=pulse.watch, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        pulse.stop()
        thread.join()


class _Pulse:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._felt = threading.Event()
        self._stopped = threading.Event()

    def watch(self) -> None:
        """Looks until it is stopped. Runs in the thread."""
        while not self._stopped.wait(LOOK_SECONDS):
            self._felt.clear()
            if self._stopped.is_set():
                return  # what has just been cleared was the end's, and the loop waits for this thread
            self._loop.call_soon_threadsafe(self._felt.set)
            if not self._felt.wait(BLOCKED_SECONDS) and not self._stopped.is_set():
                events.emit(events.LOOP_BLOCKED, by=_at_work(self._loop))
                self._felt.wait()

    def stop(self) -> None:
        """Ends the watch. Runs on the loop, so whoever waits for it need wait no more."""
        self._stopped.set()
        self._felt.set()


def _at_work(loop: asyncio.AbstractEventLoop) -> str:
    """The name of the task that has the loop: a handler's names its action."""
    task = asyncio.current_task(loop)
    return "no task" if task is None else task.get_name()
