"""Variables that start with the prefix and that no service reads: a slip, which would otherwise go unnoticed."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from taskqueue import events
from taskqueue.settings import PREFIX

SETTINGS: Final = frozenset(
    {
        *(
            "actions",
            "api_keys_file",
            "broker_password",
            "broker_password_file",
            "broker_url",
            "channels",
            "database_url",
            "failpoints",
        ),
        *(
            "health_file",
            "host",
            "host_names",
            "lease_seconds",
            "log_format",
            "log_level",
            "max_attempts",
            "max_connections",
        ),
        *(
            "max_streams",
            "max_waiting",
            "port",
            "prefetch_count",
            "rate_limit",
            "retention_days",
            "shutdown_grace_seconds",
        ),
        *("simulated_work_seconds", "task_timeout_seconds", "unknown_action"),
    }
)
"""The settings of all services: what one of them does not read may be meant for another. A test keeps it whole."""


def warn_of_unknown(names: Iterable[str]) -> None:
    """Reports each of these variables that no service reads, and which one may be meant."""
    for name, nearest in _unknown(names):
        events.emit(events.SETTING_UNKNOWN, variable=name, nearest=nearest)


def _unknown(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    for name in sorted(names):
        setting = name.upper().removeprefix(PREFIX).lower()
        if name.upper().startswith(PREFIX) and setting not in SETTINGS:
            near = get_close_matches(setting, sorted(SETTINGS), n=1)
            yield name, f"{PREFIX}{near[0].upper()}" if near else None
