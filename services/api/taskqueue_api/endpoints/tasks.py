"""`/tasks`: submit one, list the newest, show one."""

from aiohttp import web

from taskqueue.clock import milliseconds
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS
from taskqueue.errors import InvalidRequest
from taskqueue.schema import TaskPayload, TaskRequest, TaskStatus
from taskqueue.store.sweeps import Ready
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.requests import read_body
from taskqueue_api.responses import error_response, json_response


async def submit(request: web.Request) -> web.Response:
    """`POST /tasks`: the task is on disk before the 202; then it goes its way to the broker."""
    body = await read_body(request)
    wanted = TaskRequest.parse(body)
    collaborators = request.app[COLLABORATORS]
    now = collaborators.clock()
    payload = TaskPayload.new(wanted, created_at=now // 1000)
    await collaborators.store.add(payload, due_at=now + milliseconds(DISPATCH_LEASE_SECONDS))
    collaborators.dispatcher.hand_over(Ready(payload, attempt=0, characters=len(body)))
    answer = {"id": payload.id, "status": TaskStatus.QUEUED}
    return json_response(answer, status=202, headers={"Location": f"/tasks/{payload.id}"})


async def list_newest(request: web.Request) -> web.Response:
    """`GET /tasks`: the newest tasks, of one status if the query asks for it."""
    tasks = await request.app[COLLABORATORS].store.newest(_wanted_status(request))
    return json_response({"tasks": tasks, "count": len(tasks)})


async def show(request: web.Request) -> web.Response:
    """`GET /tasks/{id}`: one task."""
    task = await request.app[COLLABORATORS].store.find(request.match_info["id"])
    return json_response(task) if task else error_response("task not found", 404)


def _wanted_status(request: web.Request) -> TaskStatus | None:
    text = request.query.get("status")
    try:
        return TaskStatus(text) if text else None
    except ValueError:
        raise InvalidRequest(f"status must be one of {', '.join(TaskStatus)}") from None
