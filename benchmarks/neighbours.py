"""How busy the machine is with what has nothing to do with the benchmark: such a turn says little."""

import resource
import time
from collections.abc import Callable
from typing import Final

import psutil

QUIET_PERCENT: Final = 15.0
LOOK_SECONDS: Final = 1.0


def wait_until_quiet(seconds: float) -> None:
    """Returns when the machine does little, or after so many seconds."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and psutil.cpu_percent(interval=LOOK_SECONDS) > QUIET_PERCENT:
        pass


def watch_neighbours(broker_pid: int) -> Callable[[], float]:
    """From now on; the answer says, when called, how many percent of all cores others have used since.

    What the benchmark has started counts once it has ended, so ask when it has. The broker may be out of sight, in a
    virtual machine: then it counts as another.
    """
    began, busy, own = time.monotonic(), _busy_seconds(), _own_seconds(broker_pid)

    def others_percent() -> float:
        used = (_busy_seconds() - busy) - (_own_seconds(broker_pid) - own)
        return max(0.0, 100 * used / (time.monotonic() - began) / (psutil.cpu_count() or 1))

    return others_percent


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))


def _own_seconds(broker_pid: int) -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    broker = 0.0
    if psutil.pid_exists(broker_pid):
        family = [psutil.Process(broker_pid), *psutil.Process(broker_pid).children(recursive=True)]
        broker = sum(each.cpu_times().user + each.cpu_times().system for each in family)
    return broker + sum(usage.ru_utime + usage.ru_stime for usage in usages)
