"""`/tasks`: submit one or many, list them, show one."""

from typing import Final

from aiohttp import web

from taskqueue import failpoints
from taskqueue.errors import InvalidRequest
from taskqueue.schema import FINAL
from taskqueue_api import listing
from taskqueue_api.acceptance import Accepted, accept, accept_all
from taskqueue_api.access.doors import may
from taskqueue_api.access.scopes import Scope
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.freshness import fresh_response
from taskqueue_api.requests import idempotency_key, read_body, trace_of
from taskqueue_api.responses import error_response, json_response
from taskqueue_api.waiting import end_or_timeout, ended_within, wait_applied, wanted_wait

REPLAYED_HEADER: Final = "Idempotent-Replayed"
LOOK_AGAIN: Final = {"Retry-After": "1"}
"""In how many seconds there may be something new."""


async def submit(request: web.Request) -> web.Response:
    """`POST /tasks`: the task is on disk before the 202; then it goes its way to the broker.

    Where the client would wait for the task's end, may read it, and it comes in time, the answer is the task.
    """
    key, traceparent = idempotency_key(request), trace_of(request)
    wait = wanted_wait(request) if may(request, Scope.READ) else 0
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        accepted = await accept(collaborators, body, key=key, traceparent=traceparent)
    failpoints.reach("accept.answering")
    task = await ended_within(request, accepted.id, wait)
    if task is not None:
        return json_response(task, headers=_about(accepted) | wait_applied(wait))
    answer = {"id": accepted.id, "status": accepted.status}
    return json_response(answer, status=202, headers=_about(accepted) | LOOK_AGAIN)


async def submit_batch(request: web.Request) -> web.Response:
    """`POST /tasks/batch`: all tasks are on disk before the 202, or none is."""
    if idempotency_key(request) is not None:
        raise InvalidRequest("Idempotency-Key is for single tasks: a batch cannot have one")
    traceparent = trace_of(request)
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        accepted = await accept_all(collaborators, body, traceparent=traceparent)
    failpoints.reach("accept.answering")
    tasks = [{"id": each.id, "status": each.status} for each in accepted]
    return json_response({"tasks": tasks, "count": len(tasks)}, status=202, headers=LOOK_AGAIN)


async def list_newest(request: web.Request) -> web.Response:
    """`GET /tasks`: the newest of the tasks that the query asks for, and where to go on."""
    wanted, limit, after = listing.wanted(request), listing.limit(request), listing.position(request)
    page = await request.app[COLLABORATORS].store.page(wanted, limit, after)
    content = {"tasks": page.tasks, "count": len(page.tasks)}
    return json_response(content, headers=listing.link_to_next(request, page.next))


async def show(request: web.Request) -> web.StreamResponse:
    """`GET /tasks/{id}`: one task; once it has ended, where the client would wait for that."""
    store, task_id = request.app[COLLABORATORS].store, request.match_info["id"]
    wait = wanted_wait(request)
    task = await store.find(task_id)
    if wait and task and task.status not in FINAL:
        await end_or_timeout(request, task_id, wait)
        task = await store.find(task_id)
    if task is None:
        return error_response("task not found", 404)
    return fresh_response(request, task, wait_applied(wait) | ({} if task.status in FINAL else LOOK_AGAIN))


def _about(accepted: Accepted) -> dict[str, str]:
    return {"Location": f"/tasks/{accepted.id}"} | ({REPLAYED_HEADER: "true"} if accepted.replayed else {})
