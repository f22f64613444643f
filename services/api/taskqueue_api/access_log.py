"""One line in the log for each request: the route's template rather than the raw path, which may hold anything."""

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from taskqueue import events
from taskqueue_api.access.doors import CALLER
from taskqueue_api.requests import REQUEST_ID


class AccessLog(AbstractAccessLogger):
    """Writes `events.REQUEST_SERVED`; `duration` is in milliseconds."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Reports one served request; `time` is in seconds."""
        events.emit(
            events.REQUEST_SERVED,
            method=request.method,
            route=_route(request),
            status=response.status,
            bytes=response.body_length,
            duration=round(time * 1000, 1),
            client=request.remote,
            request_id=request.get(REQUEST_ID),
            key=request[CALLER].id if CALLER in request else None,
        )


def _route(request: web.BaseRequest) -> str | None:
    resource = request.match_info.route.resource if isinstance(request, web.Request) else None
    return resource.canonical if resource else None
