"""A stream of server-sent events (html.spec.whatwg.org, section 9.2), to a client that may stop reading."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic_core import from_json, to_json

from taskqueue import events
from taskqueue.errors import InvalidRequest, StoreError
from taskqueue.schema import TaskStatus
from taskqueue.store.changes import Event
from taskqueue.store.reads import Glance
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.protocol import cut_off

HEARTBEAT_SECONDS: Final = 15.0
RETRY_MILLISECONDS: Final = 2_000
READ_SECONDS: Final = 10.0
"""How long a client may leave what it was sent unread; then it is cut off."""

EVENTS_AT_ONCE: Final = 500
MAX_POSITION: Final = 2**63 - 1

HURRY_SECONDS: Final = 1.0
"""The same, once the process stops."""

_HEARTBEAT: Final = b":\n\n"
_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # a proxy must not hold events back
}


def last_event_id(request: web.Request) -> int | None:
    """The event after which the client wants to go on. Raises InvalidRequest where it can be none of ours."""
    sent = request.headers.get("Last-Event-ID", request.query.get("last_event_id"))
    if not sent:
        return None
    if not (sent.isascii() and sent.isdigit()) or len(sent) > len(str(MAX_POSITION)) or int(sent) > MAX_POSITION:
        raise InvalidRequest("Last-Event-ID must be the id of an event")
    return int(sent)


class EventStream:
    """An answer that goes on. Its methods raise ConnectionError where the client is gone, or does not read."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._patience: asyncio.Timeout | None = None
        self.response = web.StreamResponse(headers=_HEADERS)

    async def open(self, position: int) -> None:
        """Begins. A client that loses the stream before its first event goes on from `position`."""
        await self.response.prepare(self._request)
        await self._write(f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n".encode())

    async def send(self, texts: Sequence[bytes]) -> None:
        """Sends events, as `told` and `told_at_a_glance` make them."""
        for first in range(0, len(texts), EVENTS_AT_ONCE):
            await self._write(b"".join(texts[first : first + EVENTS_AT_ONCE]))

    async def tell_of_gap(self, last: int, oldest: int) -> None:
        """Says that of what came after the change `last`, nothing before the change `oldest` is kept any more."""
        await self._write(b'id: %d\nevent: gap\ndata: {"after":%d,"before":%d}\n\n' % (oldest - 1, last, oldest))

    async def beat(self) -> None:
        """Shows the client, and whatever is between us, that the stream is alive."""
        await self._write(_HEARTBEAT)

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS) as self._patience:
                await self.response.write(data)
        except TimeoutError:
            cut_off(self._request)
            raise ConnectionResetError("the client does not read") from None
        finally:
            self._patience = None

    def hurry(self) -> None:
        """The process stops: a client that does not read is cut off now."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + HURRY_SECONDS)


@contextmanager
def event_stream(request: web.Request) -> Iterator[EventStream]:
    """A stream to the client, which may go at any time: the block then ends, and that is all.

    What fails after the stream has begun ends it, too, since it is too late for another answer: the client comes again.
    """
    stream = EventStream(request)
    at_stop = request.app[COLLABORATORS].at_stop
    at_stop.add(stream.hurry)
    try:
        with suppress(ConnectionError):
            yield stream
    except Exception as error:
        if not stream.response.prepared:
            raise
        known = isinstance(error, StoreError)
        events.emit(events.REQUEST_FAILED, reason=str(error), exc_info=None if known else error)
    finally:
        at_stop.discard(stream.hurry)


def told(event: Event) -> bytes:
    """A change as the client reads it."""
    detail = _value(event.change.detail)
    if event.change.status is TaskStatus.RUNNING:
        return _text(event, {} if detail is None else {"progress": detail})
    return _text(event, detail if isinstance(detail, dict) else {})


def told_at_a_glance(glance: Glance) -> bytes:
    """Where a task stands, in the form of a change."""
    more: dict[str, Any] = {}
    if glance.progress is not None:
        more["progress"] = _value(glance.progress)
    if glance.error is not None:
        more["error"] = glance.error
    return _text(glance.event, more)


def _value(text: str | None) -> Any:
    """What a JSON text of the store says; None where it is damaged, since a stream must go on."""
    try:
        return None if text is None else from_json(text)
    except ValueError:
        return None


def _text(event: Event, more: dict[str, Any]) -> bytes:
    change = event.change
    members = {
        "id": change.task_id,
        "action": event.action,
        "status": change.status,
        "attempt": change.attempt,
        "at": change.at,
        **more,
    }
    return b"id: %d\nevent: task\ndata: %b\n\n" % (event.seq, to_json(members))
