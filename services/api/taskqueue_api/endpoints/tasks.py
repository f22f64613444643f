"""`/tasks`: submit one, list the newest, show one."""

from aiohttp import web

from taskqueue.clock import milliseconds
from taskqueue.dispatch import DISPATCH_LEASE_SECONDS
from taskqueue.errors import InvalidRequest
from taskqueue.schema import TaskPayload, TaskRequest, TaskStatus
from taskqueue.store.sweeps import Ready
from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.requests import read_body
from taskqueue_api.responses import error_response, json_response


async def submit(request: web.Request) -> web.Response:
    """`POST /tasks`: the task is on disk before the 202; then it goes its way to the broker."""
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        task_id = await _accept(body, collaborators)
    answer = {"id": task_id, "status": TaskStatus.QUEUED}
    return json_response(answer, status=202, headers={"Location": f"/tasks/{task_id}"})


async def list_newest(request: web.Request) -> web.Response:
    """`GET /tasks`: the newest tasks, of one status if the query asks for it."""
    tasks = await request.app[COLLABORATORS].store.newest(_wanted_status(request))
    return json_response({"tasks": tasks, "count": len(tasks)})


async def show(request: web.Request) -> web.Response:
    """`GET /tasks/{id}`: one task."""
    task = await request.app[COLLABORATORS].store.find(request.match_info["id"])
    return json_response(task) if task else error_response("task not found", 404)


async def _accept(body: bytes, collaborators: Collaborators) -> str:
    """The id of a new task, which is on disk, and on its way to the broker."""
    now = collaborators.clock()
    payload = TaskPayload.new(TaskRequest.parse(body), created_at=now // 1000)
    await collaborators.store.add(payload, due_at=now + milliseconds(DISPATCH_LEASE_SECONDS))
    collaborators.dispatcher.hand_over(Ready(payload, attempt=0, characters=len(body)))
    return payload.id


def _wanted_status(request: web.Request) -> TaskStatus | None:
    text = request.query.get("status")
    try:
        return TaskStatus(text) if text else None
    except ValueError:
        raise InvalidRequest(f"status must be one of {', '.join(TaskStatus)}") from None
