"""Web pages: what a browser lets the pages of other sites do at an API that asks nobody for a key.

A page of any site can send a POST to this machine, though it reads none of the answer. And where its own name leads
here, the browser takes us for its own site, and lets it read as well: then only `Host` tells. A key, where one is asked
for, keeps both out, since no browser adds it by itself.

Sources: w3.org/TR/fetch-metadata, fetch.spec.whatwg.org (Origin), RFC 6761, section 6.3, and ICANN's resolution
2024.07.29.06 (names that never lead out: `localhost`, `internal`).
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from aiohttp import hdrs, web

Names = frozenset[str] | None
ANY_NAME: Final = None

_SITE: Final = "Sec-Fetch-Site"
_CROSS_SITE: Final = "cross-site"
_NEVER_PUBLIC: Final = (".localhost", ".internal")
_PLACE: Final = re.compile(r"(?:\[(?P<address>[^\[\]]*)\]|(?P<name>[^\[\]:/@]*))(:[0-9]*)?")


def refuse_other_sites(request: web.Request) -> None:
    """Raises HTTPForbidden for what a page of another site sends. Whatever is no browser sends neither header."""
    site = request.headers.get(_SITE)
    foreign = site == _CROSS_SITE if site else _is_foreign(request.headers.get(hdrs.ORIGIN), request)
    if foreign:
        raise web.HTTPForbidden(reason="a page of another site may not ask for this, as long as no keys are set")


def names_of_ours(setting: str | None, *, loopback: bool) -> Names:
    """The public names that lead to us, by TASKQUEUE_HOST_NAMES; unset, none on loopback and any elsewhere."""
    if setting is None:
        return frozenset() if loopback else ANY_NAME
    names = frozenset(name.strip().lower().rstrip(".") for name in setting.split(","))
    return ANY_NAME if "*" in names else names


def refuse_public_names(request: web.Request, ours: Names) -> None:
    """Raises HTTPForbidden for a name that anybody may own, and lead to this machine."""
    if ours is ANY_NAME:
        return
    name = _name(request.headers.get(hdrs.HOST, ""))
    if name is None or not (name in ours or _leads_nowhere_else(name)):
        raise web.HTTPForbidden(
            reason="without keys, ask by localhost or an address; any other name must be in TASKQUEUE_HOST_NAMES"
        )


def _is_foreign(origin: str | None, request: web.Request) -> bool:
    """Of a browser that tells no site, as some do where there is no TLS. Ports do not count: nor do they for a site."""
    if origin is None:
        return False
    page = _name(origin.partition("://")[2])
    return page != _name(request.headers.get(hdrs.HOST, "")) and not _is_loopback(page)


def _name(host_and_port: str) -> str | None:
    found = _PLACE.fullmatch(host_and_port)
    return (found["address"] or found["name"] or "").lower().rstrip(".") if found else None


@lru_cache(maxsize=256)
def _leads_nowhere_else(name: str) -> bool:
    """An address, or a name that is not of the public ones: those have a dot."""
    return _is_address(name) or "." not in name or name.endswith(_NEVER_PUBLIC)


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _is_loopback(name: str | None) -> bool:
    if not name:
        return False
    return ip_address(name).is_loopback if _is_address(name) else f".{name}".endswith(".localhost")
