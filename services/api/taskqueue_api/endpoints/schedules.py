"""`/schedules`: what is to be done again and again."""

from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from taskqueue.schedule import Schedule, ScheduleRequest
from taskqueue.schema import TaskStatus, decode_object
from taskqueue.store.schedules import Kept
from taskqueue.store.sweeps import Ready
from taskqueue_api import listing
from taskqueue_api.collaborators import COLLABORATORS, Collaborators
from taskqueue_api.requests import read_body
from taskqueue_api.responses import error_response, json_response

CHANGES_AT_ONCE: Final = 20
"""So often a change is tried that others come before."""


async def create(request: web.Request) -> web.Response:
    """`POST /schedules`: it is on disk before the 201."""
    body = await read_body(request)
    collaborators = request.app[COLLABORATORS]
    async with collaborators.bodies.holding(len(body)):
        asked = ScheduleRequest.parse(body)
        asked.check_timezone()
        collaborators.catalogue.check(asked.action, asked.data)
        now = collaborators.clock()
        # To the second, as clients see it: intervals count from there.
        kept = Kept(str(uuid4()), asked, now, asked.first_after(now, now // 1000 * 1000))
        await collaborators.store.keep_schedule(kept)
    return await _answer(request, kept.id, 201)


async def list_all(request: web.Request) -> web.Response:
    """`GET /schedules`: oldest first, and where to go on."""
    page = await request.app[COLLABORATORS].store.schedules(listing.position(request))
    content = {"schedules": [_shown(schedule) for schedule in page.schedules], "count": len(page.schedules)}
    return json_response(content, headers=listing.link_to_next(request, page.next))


async def show(request: web.Request) -> web.Response:
    """`GET /schedules/{id}`: one schedule."""
    return await _answer(request, request.match_info["id"])


async def change(request: web.Request) -> web.Response:
    """`PATCH /schedules/{id}`: the members that are sent take the place of what was."""
    body = await read_body(request)
    async with request.app[COLLABORATORS].bodies.holding(len(body)):
        return await _change(request, decode_object(body))


async def pause(request: web.Request) -> web.Response:
    """`POST /schedules/{id}/pause`: no further tick."""
    return await _change(request, {"paused": True})


async def resume(request: web.Request) -> web.Response:
    """`POST /schedules/{id}/resume`: on with the next tick from now; what a pause left out is not made up for."""
    return await _change(request, {"paused": False})


async def delete(request: web.Request) -> web.Response:
    """`DELETE /schedules/{id}`: no further tick; the tasks that it made stay."""
    forgotten = await request.app[COLLABORATORS].store.forget_schedule(request.match_info["id"])
    return web.Response(status=204) if forgotten else _not_found()


async def run_now(request: web.Request) -> web.Response:
    """`POST /schedules/{id}/run`: one task more, at once; the ticks stay where they are."""
    collaborators = request.app[COLLABORATORS]
    schedule = await collaborators.store.find_schedule(request.match_info["id"])
    if schedule is None:
        return _not_found()
    now = collaborators.clock()
    payload, options = schedule.payload(created_at=now // 1000), schedule.base_options()
    async with collaborators.backlog.room_for(1):
        await collaborators.store.add(payload, collaborators.first_due(now), options, schedule_id=schedule.id)
    collaborators.dispatcher.hand_over(Ready(payload, attempt=0, priority=options.priority))
    answer = {"id": payload.id, "status": TaskStatus.QUEUED}
    return json_response(answer, status=202, headers={"Location": f"/tasks/{payload.id}"})


async def _change(request: web.Request, changes: dict[str, Any]) -> web.Response:
    for _ in range(CHANGES_AT_ONCE):
        schedule = await request.app[COLLABORATORS].store.find_schedule(request.match_info["id"])
        if schedule is None:
            return _not_found()
        if await _replace(request.app[COLLABORATORS], schedule, changes):
            return await _answer(request, schedule.id)
    return error_response("others are changing this schedule just now: try again", 409)


async def _replace(collaborators: Collaborators, schedule: Schedule, changes: dict[str, Any]) -> bool:
    """False where somebody else has changed it since it was read."""
    asked = schedule.changed(changes)
    if "timezone" in changes:
        asked.check_timezone()
    if not changes.keys().isdisjoint(("action", "data")):  # one that no longer fits can be paused all the same
        collaborators.catalogue.check(asked.action, asked.data)
    created_at = schedule.created_at * 1000
    kept = Kept(schedule.id, asked, created_at, asked.first_after(collaborators.clock(), created_at))
    return await collaborators.store.change_schedule(schedule, kept)


async def _answer(request: web.Request, schedule_id: str, status: int = 200) -> web.Response:
    schedule = await request.app[COLLABORATORS].store.find_schedule(schedule_id)
    if schedule is None:
        return _not_found()
    headers = {"Location": f"/schedules/{schedule_id}"} if status == 201 else None  # noqa: PLR2004 - Created
    return json_response(_shown(schedule), status, headers)


def _shown(schedule: Schedule) -> dict[str, Any]:
    return {"id": schedule.id, **schedule.model_dump(exclude={"id"})}


def _not_found() -> web.Response:
    return error_response("schedule not found", 404)
