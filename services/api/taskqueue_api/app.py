"""The application: which path leads to which endpoint, and which scope it asks for."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from taskqueue_api.access.doors import Doors
from taskqueue_api.access.scopes import OPEN, Scope
from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.endpoints import audit, bulk, events, health, orders, schedules, tasks, why, workers
from taskqueue_api.problems import answer_problems
from taskqueue_api.requests import MAX_BODY_BYTES, identify_request
from taskqueue_api.responses import dress_response

ROUTES: Final[Sequence[tuple[Scope | None, web.RouteDef]]] = (
    (Scope.SUBMIT, web.post("/tasks", tasks.submit)),
    (Scope.SUBMIT, web.post("/tasks/batch", tasks.submit_batch)),
    (Scope.READ, web.get("/tasks", tasks.list_newest)),
    (Scope.READ, web.get("/tasks/{id}", tasks.show)),
    (Scope.READ, web.get("/tasks/{id}/why", why.why)),
    (Scope.ADMIN, web.delete("/tasks/{id}", orders.delete)),
    (Scope.ADMIN, web.post("/tasks/cancel", bulk.cancel)),
    (Scope.ADMIN, web.post("/tasks/retry", bulk.retry)),
    (Scope.SUBMIT, web.post("/tasks/{id}/cancel", orders.cancel)),
    (Scope.SUBMIT, web.post("/tasks/{id}/retry", orders.retry)),
    (Scope.READ, web.get("/tasks/{id}/events", events.of_task, allow_head=False)),
    (Scope.READ, web.get("/events", events.of_all, allow_head=False)),
    (Scope.READ, web.get("/actions", workers.list_actions)),
    (Scope.READ, web.get("/workers", workers.list_workers)),
    (Scope.SUBMIT, web.post("/schedules", schedules.create)),
    (Scope.READ, web.get("/schedules", schedules.list_all)),
    (Scope.READ, web.get("/schedules/{id}", schedules.show)),
    (Scope.SUBMIT, web.patch("/schedules/{id}", schedules.change)),
    (Scope.ADMIN, web.delete("/schedules/{id}", schedules.delete)),
    (Scope.SUBMIT, web.post("/schedules/{id}/pause", schedules.pause)),
    (Scope.SUBMIT, web.post("/schedules/{id}/resume", schedules.resume)),
    (Scope.SUBMIT, web.post("/schedules/{id}/run", schedules.run_now)),
    (Scope.ADMIN, web.get("/audit", audit.audit, allow_head=False)),
    (OPEN, web.get("/livez", health.live)),
    (OPEN, web.get("/readyz", health.ready)),
)


def create_app(collaborators: Collaborators, doors: Doors) -> web.Application:
    """The API around its collaborators, behind its doors."""
    app = web.Application(middlewares=[identify_request, answer_problems, doors.admit], client_max_size=MAX_BODY_BYTES)
    app[COLLABORATORS] = collaborators
    app[audit.AT_WORK] = asyncio.Lock()
    app.on_response_prepare.append(dress_response)
    for scope, route in ROUTES:
        doors.declare(scope, app.add_routes([route]))
    return app
