"""Ports that nobody listens on."""

import socket
from contextlib import ExitStack

TRIES = 100


def free_port() -> int:
    """A port of the loopback interface that was free just now."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """So many neighbouring ports of the loopback interface that were free just now."""
    for _ in range(TRIES):
        with ExitStack() as held:
            first = _bind(held, 0)
            try:
                for port in range(first + 1, first + count):
                    _bind(held, port)
            except OSError:
                continue
            return range(first, first + count)
    raise OSError(f"no {count} neighbouring ports are free")


def _bind(held: ExitStack, port: int) -> int:
    listener = held.enter_context(socket.socket())
    listener.bind(("127.0.0.1", port))
    bound: int = listener.getsockname()[1]
    return bound
