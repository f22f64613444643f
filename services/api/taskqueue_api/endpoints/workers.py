"""`/workers` and `/actions`: who works, and what they can do."""

from aiohttp import web

from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.responses import json_response


async def list_actions(request: web.Request) -> web.Response:
    """`GET /actions`: what live workers can do, and what `POST /tasks` checks: both are the catalogue."""
    return json_response({"actions": request.app[COLLABORATORS].catalogue.actions})


async def list_workers(request: web.Request) -> web.Response:
    """`GET /workers`: the live workers, and what each of them is at."""
    store = request.app[COLLABORATORS].store
    running = await store.running_by_worker()
    workers = [
        {
            "name": worker.name,
            "started_at": worker.started_at // 1000,
            "seen_at": worker.seen_at // 1000,
            "concurrency": worker.concurrency,
            "actions": sorted(worker.actions),
            "running": running.get(worker.name, []),
        }
        for worker in await store.live_workers()
    ]
    return json_response({"workers": workers})
