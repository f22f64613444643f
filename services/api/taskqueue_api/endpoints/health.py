"""`/livez` and `/readyz`: what a supervisor and a load balancer ask."""

import asyncio
from typing import Final, Literal

from aiohttp import web

from taskqueue.errors import TaskQueueError
from taskqueue.store.tasks import TaskStore
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.responses import json_response

CHECK_TIMEOUT_SECONDS: Final = 2.0

Verdict = Literal["pass", "fail", "degraded"]


async def live(_: web.Request) -> web.Response:
    """`GET /livez`: this process answers; it asks nobody else."""
    return json_response({"status": "pass"})


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: whether to send requests here. Without the broker tasks are still accepted, and wait on disk."""
    collaborators = request.app[COLLABORATORS]
    database = await _check_database(collaborators.store)
    broker: Verdict = "pass" if collaborators.broker.connected else "fail"
    verdict: Verdict = "degraded" if broker == "fail" else "pass"
    if database == "fail" or collaborators.draining:
        verdict = "fail"
    checks = {"database": database, "broker": broker, "accepting": "fail" if collaborators.draining else "pass"}
    return json_response({"status": verdict, "checks": checks}, status=503 if verdict == "fail" else 200)


async def _check_database(store: TaskStore) -> Verdict:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await store.check()
    except (TaskQueueError, TimeoutError):
        return "fail"
    return "pass"
