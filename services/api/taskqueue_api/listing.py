"""The query of `GET /tasks`: which tasks, how many, from where on."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from aiohttp import hdrs, web
from yarl import URL

from taskqueue import jsontext
from taskqueue.errors import InvalidRequest
from taskqueue.requests import instant
from taskqueue.schema import TaskStatus
from taskqueue.store.pages import PAGE, Position, Wanted

_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")
_PLUS: Final = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")
"""Before the offset, where a client sent the plus sign as it is: in a query that is a space."""

_MAX_STAMP: Final = 2**63 - 1


def wanted(request: web.Request) -> Wanted:
    """Which tasks the query asks for; parameters that are empty or unknown ask for nothing. Raises InvalidRequest."""
    return Wanted(
        statuses=wanted_statuses(request),
        action=request.query.get("action") or None,
        tag=request.query.get("tag") or None,
        since=_instant(request, "since"),
        until=_instant(request, "until"),
    )


def limit(request: web.Request) -> int:
    """How many tasks the query asks for. Raises InvalidRequest."""
    text = request.query.get("limit") or str(PAGE)
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= PAGE:
        raise InvalidRequest(f"limit must be a whole number from 1 to {PAGE}")
    return int(text)


def position(request: web.Request) -> Position | None:
    """Where the last page ended, by the query's cursor. Raises InvalidRequest for one that no answer gave."""
    cursor = request.query.get("cursor")
    if not cursor:
        return None
    try:
        accepted_at, task_id = jsontext.decode(urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError):
        accepted_at, task_id = None, None
    if type(accepted_at) is not int or not 0 <= accepted_at <= _MAX_STAMP or not isinstance(task_id, str):
        raise InvalidRequest("cursor must be one that an earlier answer gave")
    return Position(accepted_at, task_id)


def link_to_next(request: web.Request, after: Position | None) -> dict[str, str]:
    """The header that leads to the page after this one, if there is one: the same query, and where to go on."""
    if after is None:
        return {}
    cursor = urlsafe_b64encode(jsontext.encode([after.accepted_at, after.id])).decode()
    target = URL.build(path=request.path, query=request.query).update_query(cursor=cursor)
    return {str(hdrs.LINK): f'<{target}>; rel="next"'}


def wanted_statuses(request: web.Request) -> frozenset[TaskStatus]:
    """The statuses that the query names, if any. Raises InvalidRequest for a word that is no status."""
    words = [word for text in request.query.getall("status", []) for word in text.split(",") if word]
    try:
        return frozenset(map(TaskStatus, words))
    except ValueError:
        raise InvalidRequest(f"status must be one of {', '.join(TaskStatus)}") from None


def _instant(request: web.Request, name: str) -> int | None:
    """An instant in microseconds."""
    text = request.query.get(name)
    if not text:
        return None
    text = _PLUS.sub("+", text)
    if _UNIX_SECONDS.fullmatch(text):
        return round(float(text) * 1_000_000)
    try:
        return instant(text) * 1000
    except ValueError as error:
        raise InvalidRequest(f"{name} must be Unix seconds, or {str(error).removeprefix('must be ')}") from None
