"""Web pages: what a browser lets the pages of other sites do at an API that asks nobody for a key.

A page of any site can send a POST to this machine, though it reads none of the answer. And where its own name leads
here, the browser takes us for its own site, and lets it read as well: then only `Host` tells. A key, where one is asked
for, keeps both out, since no browser adds it by itself.

Sources: w3.org/TR/fetch-metadata, fetch.spec.whatwg.org (Origin), RFC 6761, section 6.3, and ICANN's resolution
2024.07.29.06 (names that never lead out: `localhost`, `internal`).
"""

import re
from ipaddress import ip_address
from typing import Final

from aiohttp import hdrs, web

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


def refuse_public_names(request: web.Request) -> None:
    """Raises HTTPForbidden for a name that anybody may own, and lead to this machine."""
    if not _is_ours(_name(request.headers.get(hdrs.HOST, ""))):
        raise web.HTTPForbidden(
            reason="as long as no keys are set, ask this machine as localhost or by its address, not by another name"
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


def _is_ours(name: str | None) -> bool:
    """An address, or a name that is not of the public ones: those have a dot."""
    if name is None:
        return False
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
