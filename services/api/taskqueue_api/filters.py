"""The body of an order for many tasks: which ones. What is not understood is refused, since it could only widen it."""

import math
from typing import Any, Final

from taskqueue.errors import InvalidRequest
from taskqueue.requests import instant
from taskqueue.schema import TaskStatus, decode_object
from taskqueue.store.pages import Wanted

MEMBERS: Final = ("status", "action", "tag", "since", "until")
_MAX_SECONDS: Final = 10**11


def parse(body: bytes) -> Wanted:
    """Which tasks the body asks for. Raises InvalidRequest with a sentence for the client."""
    members = decode_object(body)
    unknown = sorted(set(members) - set(MEMBERS))
    if unknown:
        raise InvalidRequest(f"{unknown[0]:.100} is not a filter; there are {', '.join(MEMBERS)}")
    if not members:
        raise InvalidRequest(f"at least one filter required: {', '.join(MEMBERS)}")
    return Wanted(
        statuses=_statuses(members),
        action=_text(members, "action"),
        tag=_text(members, "tag"),
        since=_moment(members, "since"),
        until=_moment(members, "until"),
    )


def _statuses(members: dict[str, Any]) -> frozenset[TaskStatus]:
    if "status" not in members:
        return frozenset()
    given = members["status"]
    words = given.split(",") if isinstance(given, str) else given
    if isinstance(words, list) and words and all(word in list(TaskStatus) for word in words):
        return frozenset(map(TaskStatus, words))
    raise InvalidRequest(f"status must be one or several of {', '.join(TaskStatus)}")


def _text(members: dict[str, Any], name: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} must be a string that is not empty")
    return value


def _moment(members: dict[str, Any], name: str) -> int | None:
    """An instant in microseconds."""
    if name not in members:
        return None
    value = members[name]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_SECONDS:
        return math.floor(value * 1_000_000)
    try:
        return instant(value) * 1000
    except ValueError as error:
        raise InvalidRequest(f"{name} must be Unix seconds, or {str(error).removeprefix('must be ')}") from None
