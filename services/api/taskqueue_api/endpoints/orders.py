"""What people order by hand: cancel a task, retry it, delete it."""

from typing import Final

from aiohttp import web

from taskqueue import failpoints
from taskqueue.schema import TaskStatus
from taskqueue.store.orders import Cancelled, Order, Refused
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.endpoints.tasks import LOOK_AGAIN
from taskqueue_api.responses import error_response, json_response

FINISHED: Final = "task already finished"
NOT_TO_RETRY: Final = "only a failed or cancelled task can be retried"
UNFINISHED: Final = "only a finished task can be deleted"


async def cancel(request: web.Request) -> web.Response:
    """`POST /tasks/{id}/cancel`: one that has not begun never will; the worker of one that runs is asked to stop."""
    order = _order(request)
    answer = await request.app[COLLABORATORS].store.cancel(order)
    if isinstance(answer, Refused):
        return _refusal(answer, FINISHED)
    if answer is Cancelled.REQUESTED:
        return json_response({"id": order.id, "status": TaskStatus.RUNNING}, 202, LOOK_AGAIN)
    return json_response({"id": order.id, "status": TaskStatus.CANCELLED})


async def retry(request: web.Request) -> web.Response:
    """`POST /tasks/{id}/retry`: on disk before the 202, and then on its way to the broker, like a new task."""
    order = _order(request)
    collaborators = request.app[COLLABORATORS]
    answer = await collaborators.store.retry(order)
    if isinstance(answer, Refused):
        return _refusal(answer, NOT_TO_RETRY)
    failpoints.reach("retry.committed")
    collaborators.dispatcher.hand_over(answer)
    headers = {**LOOK_AGAIN, "Location": f"/tasks/{order.id}"}
    return json_response({"id": order.id, "status": TaskStatus.QUEUED}, 202, headers)


async def delete(request: web.Request) -> web.Response:
    """`DELETE /tasks/{id}`: a finished task is gone, and its idempotency key is free again."""
    answer = await request.app[COLLABORATORS].store.erase(_order(request))
    return _refusal(answer, UNFINISHED) if isinstance(answer, Refused) else web.Response(status=204)


def _order(request: web.Request) -> Order:
    collaborators = request.app[COLLABORATORS]
    now = collaborators.clock()
    return Order(request.match_info["id"], now, due_at=collaborators.first_due(now))


def _refusal(refused: Refused, sentence: str) -> web.Response:
    return error_response("task not found", 404) if refused is Refused.UNKNOWN else error_response(sentence, 409)
