"""Answers that a client may have already: ETag and If-None-Match (RFC 9110, sections 8.8.3 and 13.1.2)."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from aiohttp import hdrs, web

from taskqueue_api.responses import json_response

_TAGS: Final = re.compile(r'"([^"]*)"')


def fresh_response(request: web.Request, content: Any, headers: Mapping[str, str]) -> web.StreamResponse:
    """`content` as JSON with its ETag, or 304 where the client holds the very same."""
    response = json_response(content, headers=headers)
    body = response.body
    tag = blake2b(body if isinstance(body, bytes) else b"", digest_size=16).hexdigest()
    if _holds(request, tag):
        response = web.Response(status=304, headers=headers)
    response.etag = tag
    return response


def _holds(request: web.Request, tag: str) -> bool:
    """Whether the client says that it has this, or whatever there is. The header is a list, and may come in pieces."""
    known = ", ".join(request.headers.getall(hdrs.IF_NONE_MATCH, [])).strip()
    return known == "*" or tag in _TAGS.findall(known)
