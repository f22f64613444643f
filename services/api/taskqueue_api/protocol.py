"""How a connection is spoken to: what aiohttp would answer in its own way is answered in ours."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from taskqueue_api.problems import answer_http_exception
from taskqueue_api.requests import NOT_HTTP

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Protocol(web.RequestHandler):
    """One connection. Whatever comes over it gets the same form of error, the same headers and a line in the log."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer. An exception here never met our middlewares: that of an unknown Expect header."""
        answer = answer_http_exception(resp) if isinstance(resp, web.HTTPException) else resp
        return await super().finish_response(request, answer, start_time)

    def _make_error_handler(self, _: Any) -> _Handler:
        """What was not HTTP goes the way of every request; aiohttp would log a traceback and quote what it read."""
        serve = cast("_Handler", self._request_handler)

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            request[NOT_HTTP] = True
            return await serve(request)

        return handler
