"""`/tasks`: submit one or many, list them, show one."""

from typing import Final

from aiohttp import web

from taskqueue.errors import InvalidRequest
from taskqueue_api import listing
from taskqueue_api.acceptance import Accepted, accept, accept_all
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.requests import idempotency_key, read_body, trace_of
from taskqueue_api.responses import error_response, json_response

REPLAYED_HEADER: Final = "Idempotent-Replayed"
LOOK_AGAIN: Final = {"Retry-After": "1"}
"""In how many seconds there may be something new."""


async def submit(request: web.Request) -> web.Response:
    """`POST /tasks`: the task is on disk before the 202; then it goes its way to the broker."""
    key, traceparent = idempotency_key(request), trace_of(request)
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        accepted = await accept(collaborators, body, key=key, traceparent=traceparent)
    return _accepted_response(accepted)


async def submit_batch(request: web.Request) -> web.Response:
    """`POST /tasks/batch`: all tasks are on disk before the 202, or none is."""
    if idempotency_key(request) is not None:
        raise InvalidRequest("Idempotency-Key is for single tasks: a batch cannot have one")
    traceparent = trace_of(request)
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        accepted = await accept_all(collaborators, body, traceparent=traceparent)
    tasks = [{"id": each.id, "status": each.status} for each in accepted]
    return json_response({"tasks": tasks, "count": len(tasks)}, status=202, headers=LOOK_AGAIN)


async def list_newest(request: web.Request) -> web.Response:
    """`GET /tasks`: the newest of the tasks that the query asks for, and where to go on."""
    wanted, limit, after = listing.wanted(request), listing.limit(request), listing.position(request)
    page = await request.app[COLLABORATORS].store.page(wanted, limit, after)
    content = {"tasks": page.tasks, "count": len(page.tasks)}
    return json_response(content, headers=listing.link_to_next(request, page.next))


async def show(request: web.Request) -> web.Response:
    """`GET /tasks/{id}`: one task."""
    task = await request.app[COLLABORATORS].store.find(request.match_info["id"])
    return json_response(task) if task else error_response("task not found", 404)


def _accepted_response(accepted: Accepted) -> web.Response:
    headers = {**LOOK_AGAIN, "Location": f"/tasks/{accepted.id}"}
    if accepted.replayed:
        headers[REPLAYED_HEADER] = "true"
    return json_response({"id": accepted.id, "status": accepted.status}, status=202, headers=headers)
