"""The application: which path leads to which endpoint."""

from aiohttp import web

from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.endpoints import bulk, events, health, orders, schedules, tasks, why, workers
from taskqueue_api.problems import answer_problems
from taskqueue_api.requests import MAX_BODY_BYTES, identify_request
from taskqueue_api.responses import dress_response


def create_app(collaborators: Collaborators) -> web.Application:
    """The API around its collaborators."""
    app = web.Application(middlewares=[identify_request, answer_problems], client_max_size=MAX_BODY_BYTES)
    app[COLLABORATORS] = collaborators
    app.on_response_prepare.append(dress_response)
    app.add_routes(
        [
            web.post("/tasks", tasks.submit),
            web.post("/tasks/batch", tasks.submit_batch),
            web.get("/tasks", tasks.list_newest),
            web.get("/tasks/{id}", tasks.show),
            web.get("/tasks/{id}/why", why.why),
            web.delete("/tasks/{id}", orders.delete),
            web.post("/tasks/cancel", bulk.cancel),
            web.post("/tasks/retry", bulk.retry),
            web.post("/tasks/{id}/cancel", orders.cancel),
            web.post("/tasks/{id}/retry", orders.retry),
            web.get("/tasks/{id}/events", events.of_task, allow_head=False),
            web.get("/events", events.of_all, allow_head=False),
            web.get("/actions", workers.list_actions),
            web.get("/workers", workers.list_workers),
            web.post("/schedules", schedules.create),
            web.get("/schedules", schedules.list_all),
            web.get("/schedules/{id}", schedules.show),
            web.patch("/schedules/{id}", schedules.change),
            web.delete("/schedules/{id}", schedules.delete),
            web.post("/schedules/{id}/pause", schedules.pause),
            web.post("/schedules/{id}/resume", schedules.resume),
            web.post("/schedules/{id}/run", schedules.run_now),
            web.get("/livez", health.live),
            web.get("/readyz", health.ready),
        ]
    )
    return app
