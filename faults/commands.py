"""Running commands, each within a time; and ports that are free."""

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

ROOT: Final = Path(__file__).parents[1]
COMMAND_SECONDS: Final = 90.0


class CommandFailed(Exception):
    """A command ended with another code than 0, or not in time."""


def run(
    *command: str, seconds: float = COMMAND_SECONDS, environment: Mapping[str, str] | None = None, given: str = ""
) -> str:
    """What a command prints. Raises CommandFailed."""
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{' '.join(command[:6])} took longer than {seconds:g} s") from error
    if ended.returncode != 0:
        raise CommandFailed(f"{' '.join(command[:6])} ended with {ended.returncode}: {ended.stderr[-3000:].strip()}")
    return ended.stdout


@contextmanager
def lock_held(*command: str) -> Iterator[None]:
    """For as long as the block runs, a second process holds the database's write lock; see `beside/hold_lock.py`."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101 - the same
        if process.stdout.readline() != b"held\n":
            raise CommandFailed("the second process did not get the lock")
        yield
        process.stdin.close()
        process.wait(COMMAND_SECONDS)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when `condition` holds. Raises TimeoutError where it does not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {seconds:g} s")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a URL is answered with 200."""
    try:
        with urlopen(url, timeout=3):
            return True
    except (URLError, OSError):
        return False


def free_ports(count: int) -> range:
    """So many neighbouring ports of the loopback interface that were free just now. Raises OSError.

    They are below those that the system gives to clients: a container that is struck needs its port again later.
    """
    for _ in range(100):
        first = random.randrange(20_000, 32_000)
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return range(first, first + count)
    raise OSError(f"no {count} neighbouring ports are free")
