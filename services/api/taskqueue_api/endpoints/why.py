"""`GET /tasks/{id}/why`: why a task is where it is."""

from aiohttp import web

from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.responses import error_response, json_response
from taskqueue_api.why import Surroundings, reason


async def why(request: web.Request) -> web.Response:
    """`GET /tasks/{id}/why`: one sentence, and a code for machines."""
    collaborators = request.app[COLLABORATORS]
    task_id = request.match_info["id"]
    standing = await collaborators.store.standing(task_id)
    if standing is None:
        return error_response("task not found", 404)
    found = reason(standing, _surroundings(collaborators))
    return json_response({"id": task_id, "status": standing.status, "code": found.code, "reason": found.sentence})


def _surroundings(collaborators: Collaborators) -> Surroundings:
    now, broker = collaborators.clock(), collaborators.broker
    away_since = None if broker.connected else broker.away_since or now
    return Surroundings(now, away_since, collaborators.max_attempts)
