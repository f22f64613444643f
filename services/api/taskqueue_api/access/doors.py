"""The doors: which scope each route asks for, and who comes in."""

import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from taskqueue.clock import Clock
from taskqueue_api.access.keyfile import KeyFile
from taskqueue_api.access.keys import Key, holder
from taskqueue_api.access.pace import Pace
from taskqueue_api.access.pages import ANY_NAME, Names, refuse_other_sites, refuse_public_names
from taskqueue_api.access.scopes import OPEN, Scope
from taskqueue_api.protocol import cut_off

CALLER: Final = web.RequestKey("caller", Key)
"""The key that a request came with, where keys are asked for."""

READING: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
_SAFE: Final = (*READING, hdrs.METH_OPTIONS)
_BEARER: Final = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_IPV6: Final = 6


_Place = tuple[web.AbstractResource | None, str]
"""A path and a method: aiohttp answers no route for the HEAD that comes with each GET."""


def _place(route: web.AbstractRoute) -> _Place:
    return route.resource, hdrs.METH_GET if route.method == hdrs.METH_HEAD else route.method


@dataclass(frozen=True, eq=False)
class _Reader:
    request: web.Request
    key: Key


class Doors:
    """Lets in who may come in. Without a file of keys everybody may, and the pace counts by remote address.

    But web pages may not: see `taskqueue_api.access.pages`, also for `names`.
    """

    def __init__(self, keys: KeyFile | None, pace: Pace, clock: Clock, *, names: Names = ANY_NAME) -> None:
        self._names = names
        self._keys = keys
        self._pace = pace
        self._clock = clock
        self._scopes: dict[_Place, Scope | None] = {}
        self._readers: set[_Reader] = set()

    def declare(self, scope: Scope | None, routes: Iterable[web.AbstractRoute]) -> None:
        """What these routes ask for; HEAD asks for what GET does. Where nothing is declared, some valid key is."""
        self._scopes.update(dict.fromkeys(map(_place, routes), scope))

    def scope_of(self, route: web.AbstractRoute) -> Scope | None:
        """What was declared. Raises KeyError where nothing was."""
        return self._scopes[_place(route)]

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises HTTPUnauthorized, HTTPForbidden or HTTPTooManyRequests."""
        place = _place(request.match_info.route)
        if place in self._scopes and self._scopes[place] is OPEN:
            return await handler(request)
        if self._keys is None:
            self._admit_without_key(request, place)
            return await handler(request)
        caller = self._caller(self._keys, request)
        self._keep_pace(caller.id)
        scope = self._scopes.get(place)
        if scope is not None and scope not in caller.scopes:
            raise web.HTTPForbidden(reason=f"this key has not the scope {scope}")
        request[CALLER] = caller
        with self._reading(request, caller):
            return await handler(request)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While the block runs, the file of keys is read again, and readers whose key has ended are cut off."""
        if self._keys is None:
            yield
            return
        async with self._keys.kept_fresh(after=self._see_out):
            yield

    def _admit_without_key(self, request: web.Request, place: _Place) -> None:
        refuse_public_names(request, self._names)
        if request.method not in _SAFE or self._scopes.get(place) is Scope.ADMIN:
            refuse_other_sites(request)
        if self._pace.bounded:
            self._keep_pace(_origin(request.remote))

    def _caller(self, keys: KeyFile, request: web.Request) -> Key:
        sent = _BEARER.fullmatch(", ".join(request.headers.getall(hdrs.AUTHORIZATION, [])))
        caller = holder(keys.keys, sent[1] if sent else "", self._clock())
        if caller is None:
            raise web.HTTPUnauthorized(reason="a valid key is required", headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
        return caller

    def _keep_pace(self, who: str) -> None:
        wait = self._pace.wait(who)
        if wait:
            headers = {hdrs.RETRY_AFTER: str(math.ceil(wait))}
            raise web.HTTPTooManyRequests(reason="too many requests", headers=headers)

    @contextmanager
    def _reading(self, request: web.Request, caller: Key) -> Iterator[None]:
        """What only reads may be cut off; an order is carried out, and its answer told, since it was allowed."""
        if request.method not in READING:
            yield
            return
        reader = _Reader(request, caller)
        self._readers.add(reader)
        try:
            yield
        finally:
            self._readers.discard(reader)

    def _see_out(self) -> None:
        """A stream of events would otherwise outlive its key."""
        now, keys = self._clock(), self._keys.keys if self._keys else {}
        for reader in list(self._readers):
            if keys.get(reader.key.id) != reader.key or not reader.key.valid(now):
                cut_off(reader.request)


def may(request: web.Request, scope: Scope) -> bool:
    """Whether whoever asks has this scope, too; everybody has all of them where no keys are asked for."""
    return CALLER not in request or scope in request[CALLER].scopes


def _origin(remote: str | None) -> str:
    """The remote address; of IPv6 its network, in which a client has 2^64 addresses to choose from."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return ""
    return str(IPv6Network((int(address), 64), strict=False) if address.version == _IPV6 else address)
