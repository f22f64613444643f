"""Answers that wait for a task's end: `Prefer: wait=N` (RFC 7240, section 4.3) and `?wait=N`."""

import asyncio
import re
from contextlib import suppress
from typing import Final

from aiohttp import web

from taskqueue.errors import InvalidRequest, StoreError
from taskqueue.schema import FINAL, Task
from taskqueue.store.changes import Event
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.protocol import when_client_leaves

MAX_WAIT_SECONDS: Final = 30
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_PREFERENCE: Final = re.compile(r'(?:[^",]|"[^"]*")+')


def wanted_wait(request: web.Request) -> int:
    """For how many seconds the client would wait, 30 at most.

    Raises InvalidRequest where the query asks for what is no number from 0 to 30. A preference is a wish: one that
    cannot be met is left aside, and one that is too long is met as far as it goes (RFC 7240, section 2).
    """
    sent = request.query.get("wait")
    if sent is None:
        wish = _preferred(", ".join(request.headers.getall("Prefer", [])))
        return min(int(wish), MAX_WAIT_SECONDS) if _SECONDS.fullmatch(wish) else 0
    if not _SECONDS.fullmatch(sent) or int(sent) > MAX_WAIT_SECONDS:
        raise InvalidRequest(f"wait must be a whole number of seconds from 0 to {MAX_WAIT_SECONDS}")
    return int(sent)


def _preferred(header: str) -> str:
    """The value of `wait` in a Prefer header, if it is there: the first one counts."""
    for preference in _PREFERENCE.findall(header):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return str(value.strip().strip('"'))
    return ""


def wait_applied(seconds: int) -> dict[str, str]:
    """The header which says that the client's wait was taken into account."""
    return {"Preference-Applied": f"wait={seconds}"} if seconds else {}


async def ended_within(request: web.Request, task_id: str, seconds: int) -> Task | None:
    """The task, if it ends within so many seconds. Never raises a StoreError: it is a courtesy."""
    if not seconds:
        return None
    await end_or_timeout(request, task_id, seconds)
    with suppress(StoreError):
        task = await request.app[COLLABORATORS].store.find(task_id)
        return task if task is not None and task.status in FINAL else None
    return None


async def end_or_timeout(request: web.Request, task_id: str, seconds: int) -> None:
    """Returns when the task has ended, and after so many seconds at most.

    At once where the client leaves, the process stops, too many wait already, or the feed cannot be read.
    """
    collaborators = request.app[COLLABORATORS]
    with suppress(TimeoutError, StoreError), collaborators.listeners.one() as seat:
        if not seat:
            return
        async with asyncio.timeout(seconds), collaborators.feed.subscribed(task_id, _is_final) as heard:
            with when_client_leaves(request, heard.end):
                # After the subscription began: whatever ended before is seen here, whatever ends later is heard.
                glance = await collaborators.store.glance(task_id)
                if glance is not None and glance.event.change.status not in FINAL:
                    await heard.next()


def _is_final(event: Event) -> bool:
    return event.change.status in FINAL
