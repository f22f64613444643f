"""Ports that nobody listens on."""

from faults.commands import free_ports

__all__ = ["free_port", "free_ports"]


def free_port() -> int:
    """A port of the loopback interface that was free just now, and that the system gives to no client."""
    return free_ports(1)[0]
