"""How a connection is spoken to: what aiohttp would answer in its own way is answered in ours."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from aiohttp import web

from taskqueue_api.connections import Connections
from taskqueue_api.problems import answer_http_exception
from taskqueue_api.requests import NOT_HTTP

WRITE_SECONDS: Final = 60.0
"""How long a client may take over reading an answer, of 2 MB at most."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Protocol(web.RequestHandler):
    """One connection. Whatever comes over it gets the same form of error, the same headers and a line in the log."""

    __slots__ = ("_connections", "farewells")

    def __init__(self, server: web.Server, connections: Connections, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self.farewells: set[Callable[[], None]] = set()
        """What to do when the client is gone; see `when_client_leaves`."""

    @property
    def idle(self) -> bool:
        """Whether nothing is asked on it just now; also while its client is slow over its headers."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come, and perhaps another one goes for it."""
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone: whoever waits on its behalf need not wait on."""
        super().connection_lost(exc)
        self._connections.closed(self)
        for act in list(self.farewells):
            act()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer. An exception here never met our middlewares: that of an unknown Expect header."""
        answer = answer_http_exception(resp) if isinstance(resp, web.HTTPException) else resp
        self._connections.spoke(self)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await super().finish_response(request, answer, start_time)
        except TimeoutError:
            cut_off(request)
            self.log_access(request, answer, start_time)
            return answer, True

    def _make_error_handler(self, _: Any) -> _Handler:
        """What was not HTTP goes the way of every request; aiohttp would log a traceback and quote what it read."""
        serve = cast("_Handler", self._request_handler)

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            request[NOT_HTTP] = True
            return await serve(request)

        return handler


def cut_off(request: web.BaseRequest) -> None:
    """Ends the connection of a client that does not read, and drops what it has not read."""
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def when_client_leaves(request: web.BaseRequest, act: Callable[[], None]) -> Iterator[None]:
    """Does `act` when the client goes while the block runs; at once where it has gone already."""
    farewells = cast("Protocol", request.protocol).farewells
    farewells.add(act)
    try:
        if request.transport is None:
            act()
        yield
    finally:
        farewells.discard(act)
