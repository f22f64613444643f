"""Orders for many tasks at once, worked through in chunks that nobody else has to wait for.

A chunk is one commit. An order that is cut off has been carried out in part, says how far, and may be given again.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from aiohttp import web

from taskqueue import events
from taskqueue.errors import StoreError
from taskqueue.schema import FINAL, TaskStatus
from taskqueue.store.orders import Cancelled, Order, Retried
from taskqueue.store.pace import Pace
from taskqueue.store.pages import Position, Wanted
from taskqueue_api import filters
from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.problems import store_sentence
from taskqueue_api.requests import read_body
from taskqueue_api.responses import json_response

UNFINISHED: Final = frozenset(TaskStatus) - FINAL
TO_RETRY: Final = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})

CHUNK_SECONDS: Final = 0.02
"""How long a chunk should take, its commit and the wait for the writer included."""

Answer = TypeVar("Answer")


async def cancel(request: web.Request) -> web.Response:
    """`POST /tasks/cancel`: 200 where all that matched is cancelled, 202 where some workers have been asked to stop."""
    collaborators = request.app[COLLABORATORS]
    wanted = filters.parse(await read_body(request))
    at_once, requested = 0, 0
    try:
        async for answer in _each(collaborators, wanted, UNFINISHED, collaborators.store.cancel_all):
            at_once += answer is Cancelled.AT_ONCE
            requested += answer is Cancelled.REQUESTED
    except (StoreError, _Stopping) as error:
        return _cut_off(error, at_once + requested)
    return json_response({"matched": at_once + requested}, 202 if requested else 200)


async def retry(request: web.Request) -> web.Response:
    """`POST /tasks/retry`: what failed or was cancelled is due again; the sweep hands it out."""
    collaborators = request.app[COLLABORATORS]
    wanted = filters.parse(await read_body(request))
    matched = 0
    try:
        async for answer in _each(collaborators, wanted, TO_RETRY, collaborators.store.retry_all):
            matched += answer is Retried.DUE
    except (StoreError, _Stopping) as error:
        return _cut_off(error, matched)
    return json_response({"matched": matched})


class _Stopping(Exception):
    """The API stops, and the next one may be asked for the rest."""


def _cut_off(error: StoreError | _Stopping, matched: int) -> web.Response:
    """An error that also says for how many tasks the order has been carried out."""
    if isinstance(error, _Stopping):
        stopping = {"error": "the API is stopping: give the order again for the rest", "matched": matched}
        return json_response(stopping, 503, {"Retry-After": "1"})
    events.emit(events.REQUEST_FAILED, reason=str(error))
    return json_response({"error": store_sentence(error), "matched": matched}, 500)


async def _each(
    collaborators: Collaborators,
    wanted: Wanted,
    possible: frozenset[TaskStatus],
    carry_out: Callable[[Sequence[Order]], Awaitable[Sequence[Answer]]],
) -> AsyncIterator[Answer]:
    """What came of the order for each task that is wanted, of those that are possible. New ones do not come into it."""
    among = possible & (wanted.statuses or possible)
    pace = Pace(CHUNK_SECONDS)
    after: Position | None = None
    while among:
        if collaborators.draining:
            raise _Stopping
        stretch = await collaborators.store.stretch(replace(wanted, statuses=among), pace.rows, after)
        now = collaborators.clock()
        begun = time.perf_counter()
        for answer in await carry_out([Order(task_id, now, due_at=now, among=among) for task_id in stretch.ids]):
            yield answer
        pace.note(len(stretch.ids), time.perf_counter() - begun)
        after = stretch.next
        if after is None:
            return
