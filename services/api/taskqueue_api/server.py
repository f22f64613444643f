"""The API on its socket: bounded waits while it runs, and an orderly end."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from ipaddress import ip_address
from typing import Final, cast

from aiohttp import web

from taskqueue import events
from taskqueue.errors import AddressUnusable
from taskqueue_api.access.doors import Doors
from taskqueue_api.access.keyfile import KeyFile
from taskqueue_api.access.pace import Pace
from taskqueue_api.access.pages import names_of_ours
from taskqueue_api.access_log import AccessLog
from taskqueue_api.app import create_app
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.connections import Connections, at_once, open_files, raise_open_files
from taskqueue_api.protocol import Protocol
from taskqueue_api.settings import HttpSettings

IDLE_TIMEOUT_SECONDS: Final = 20.0
"""How long a connection may be silent, or take over its headers. aiohttp's own default here is 3,630 s."""

LINGERING_SECONDS: Final = 5.0
"""How long to read on after an answer that came before the body's end: a client that still writes could not read it."""


@asynccontextmanager
async def serving(collaborators: Collaborators, settings: HttpSettings) -> AsyncIterator[int]:
    """Serves the API for as long as the block runs, on the port that it answers; requests in flight are finished."""
    collaborators.listeners.number = settings.max_streams
    collaborators.backlog.most = settings.max_waiting
    doors = _doors(collaborators, settings)
    # aiohttp waits twice: once for requests to end, once for them to be cancelled.
    runner = web.AppRunner(create_app(collaborators, doors), shutdown_timeout=settings.shutdown_grace_seconds / 2)
    await runner.setup()
    async with doors.kept(), _kept_fresh(collaborators):
        try:
            with closing(await _listen(runner, settings)) as listener:
                port: int = listener.sockets[0].getsockname()[1]
                events.emit(events.STARTED, service="api", host=settings.host, port=port)
                try:
                    yield port
                finally:
                    collaborators.drain()
        finally:
            await runner.cleanup()


@asynccontextmanager
async def _kept_fresh(collaborators: Collaborators) -> AsyncIterator[None]:
    async with (
        collaborators.catalogue.kept_fresh(),
        collaborators.feed.running(),
        collaborators.backlog.kept_fresh(),
    ):
        yield


def _doors(collaborators: Collaborators, settings: HttpSettings) -> Doors:
    """Raises InvalidSettings where the file of keys cannot be used."""
    keys = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
    loopback = _is_loopback(settings.host)
    if keys is None and not loopback:
        events.emit(events.DOORS_OPEN, host=settings.host)
    names = names_of_ours(settings.host_names, loopback=loopback)
    return Doors(keys, Pace(settings.rate_limit), collaborators.clock, names=names)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _listen(runner: web.AppRunner, settings: HttpSettings) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    connect = partial(
        Protocol,
        cast("web.Server", runner.server),
        Connections(settings.max_connections),
        loop=loop,
        access_log_class=AccessLog,
        keepalive_timeout=IDLE_TIMEOUT_SECONDS,
        lingering_time=LINGERING_SECONDS,
        auto_decompress=False,
    )
    try:
        server = await loop.create_server(connect, settings.host, settings.port, backlog=1)
    except OSError as error:
        raise AddressUnusable(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    _let_many_wait(server)
    return server


def _let_many_wait(server: asyncio.Server) -> None:
    """Sets how many clients may wait to be connected.

    Not by `backlog`: asyncio takes so many at once. Where open files run out, it says so as many times, and tries again
    as often, over and over.
    """
    for listener in server.sockets:
        with socket.socket(fileno=os.dup(listener.fileno())) as same:
            same.listen(at_once(open_files()))


async def serve(collaborators: Collaborators, settings: HttpSettings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set."""
    raise_open_files(settings.max_connections)
    async with serving(collaborators, settings):
        await stop.wait()
