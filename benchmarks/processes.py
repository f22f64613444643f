"""Processes that belong to a run: started, measured, and ended by their ids."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from benchmarks.contenders.contender import Command

END_SECONDS: Final = 15.0


class Running:
    """A process, with the children that it has started."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.began = time.monotonic()
        self._process = process
        self._log_file = log_file

    def check(self) -> None:
        """Raises RuntimeError with the end of its log where it has ended."""
        if self._process.poll() is not None:
            log = self._log_file.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}: {log}")

    def cpu_seconds(self) -> float:
        """What it has used so far, its children included."""
        return sum(times.user + times.system for times in (each.cpu_times() for each in self._family()))

    def resident_mb(self) -> float:
        """The memory that it holds, its children included, in MB (10^6 bytes); what they share counts for each."""
        return sum(each.memory_info().rss for each in self._family()) / 1e6

    def _family(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def started(command: Command, log_file: Path) -> Iterator[Running]:
    """The process, for as long as the block runs; asked to end, and ended if it does not."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command.arguments,
            env=_environment(command),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(process, log_file)
    try:
        yield running
    finally:
        _end(process)


def run_to_end(command: Command, log_file: Path) -> None:
    """Runs a command that ends by itself. Raises RuntimeError where it fails."""
    with log_file.open("ab") as log:
        ended = subprocess.run(
            command.arguments, env=_environment(command), stdout=log, stderr=subprocess.STDOUT, timeout=120, check=False
        )
    if ended.returncode != 0:
        raise RuntimeError(f"{command.arguments} failed: {log_file.read_text(errors='replace')[-2000:]}")


def free_ports(count: int) -> Sequence[int]:
    """Ports of the loopback interface that were free just now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _environment(command: Command) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")} | dict(
        command.environment
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    family = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    process.kill()
    process.wait()
    for child in family:
        with suppress(psutil.NoSuchProcess):
            child.kill()
