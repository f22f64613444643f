"""`/events` and `/tasks/{id}/events`: what becomes of tasks, as it happens."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from taskqueue.feed import Subscription
from taskqueue.schema import FINAL
from taskqueue.store.changes import Event
from taskqueue_api import streaming
from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.listing import wanted_statuses
from taskqueue_api.protocol import when_client_leaves
from taskqueue_api.responses import error_response
from taskqueue_api.streaming import EventStream, event_stream, last_event_id, told, told_at_a_glance

PAGE: Final = 500
MAX_BEHIND: Final = 10_000
"""Changes of all tasks that are searched for those of one; who is further behind is told how it stands instead."""

Wants = Callable[[Event], bool]


async def of_task(request: web.Request) -> web.StreamResponse:
    """`GET /tasks/{id}/events`: where the task stands, then each change until it is final."""
    collaborators = request.app[COLLABORATORS]
    task_id, last = request.match_info["id"], last_event_id(request)
    with collaborators.listeners.one() as seat:
        if not seat:
            return _no_place()
        async with collaborators.feed.subscribed(task_id) as heard:
            glance = await collaborators.store.glance(task_id)
            if glance is None:
                return error_response("task not found", 404)
            if heard.ended:
                return _no_place()
            now, over = glance.event.seq, glance.event.change.status in FINAL
            if last is None or not now - MAX_BEHIND <= last <= now or await _gap_after(collaborators, last):
                past, position = [told_at_a_glance(glance)], now
            else:
                missed = await collaborators.store.changes_after(last, now, MAX_BEHIND, task_id)
                past, position = [told(event) for event in missed], last
            if over and not past:
                return web.Response(status=204)  # has it all, and a browser does not come again
            with event_stream(request) as stream, when_client_leaves(request, heard.end):
                await stream.open(position)
                await stream.send(past)
                if not over:
                    await _send_live(stream, heard, now, until_final=True)
            return stream.response


async def of_all(request: web.Request) -> web.StreamResponse:
    """`GET /events`: each change of each task from now on, or from where the client was; of those it asks for."""
    collaborators = request.app[COLLABORATORS]
    wants, last = _wanted(request), last_event_id(request)
    with collaborators.listeners.one() as seat:
        if not seat or collaborators.draining:
            return _no_place()
        newest = await collaborators.store.newest_change()
        position = newest if last is None else min(last, newest)
        oldest = await _gap_after(collaborators, position)
        with event_stream(request) as stream:
            await stream.open(position)
            if oldest is not None:
                await stream.tell_of_gap(position, oldest)
            await _send_all(stream, request, position, wants)
        return stream.response


async def _gap_after(collaborators: Collaborators, position: int) -> int | None:
    """The oldest change that is kept, where others that came after `position` are not; else None."""
    oldest = await collaborators.store.oldest_change()
    return oldest if oldest is not None and position < oldest - 1 else None


async def _send_all(stream: EventStream, request: web.Request, position: int, wants: Wants) -> None:
    collaborators = request.app[COLLABORATORS]
    # Most of the past before it listens, since what it hears meanwhile would wait in memory.
    newest = await collaborators.store.newest_change()
    await _send_past(stream, collaborators, position, newest, wants)
    async with collaborators.feed.subscribed(None, wants) as heard:
        with when_client_leaves(request, heard.end):
            if heard.start is not None:
                start = max(newest, heard.start)
                await _send_past(stream, collaborators, newest, start, wants)
                await _send_live(stream, heard, start, until_final=False)


async def _send_past(
    stream: EventStream, collaborators: Collaborators, position: int, until: int, wants: Wants
) -> None:
    while position < until and not collaborators.draining:
        page = await collaborators.store.changes_after(position, until, PAGE)
        await stream.send([told(event) for event in page if wants(event)])
        position = page[-1].seq if len(page) == PAGE else until


async def _send_live(stream: EventStream, heard: Subscription, position: int, *, until_final: bool) -> None:
    """Sends what is heard after `position`, until it ends."""
    while not heard.ended:
        news: Sequence[Event] = []
        try:
            async with asyncio.timeout(streaming.HEARTBEAT_SECONDS):
                news = await heard.next()
        except TimeoutError:
            await stream.beat()
        news = [event for event in news if event.seq > position]
        for place, event in enumerate(news):
            if until_final and event.change.status in FINAL:
                await stream.send([told(each) for each in news[: place + 1]])
                return
        await stream.send([told(event) for event in news])


def _wanted(request: web.Request) -> Wants:
    """Whether a change is one of those that the client asks for. Raises InvalidRequest for a status that is none."""
    statuses = wanted_statuses(request)
    actions = frozenset(text for text in request.query.getall("action", []) if text)

    def wants(event: Event) -> bool:
        return (not statuses or event.change.status in statuses) and (not actions or event.action in actions)

    return wants


def _no_place() -> web.Response:
    return error_response("too many clients listen already", 503, {"Retry-After": "1"})
