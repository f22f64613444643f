"""Answers that a client may have already: ETag and If-None-Match (RFC 9110, sections 8.8.3 and 13.1.2)."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from aiohttp import web

from taskqueue_api.responses import json_response


def fresh_response(request: web.Request, content: Any, headers: Mapping[str, str]) -> web.StreamResponse:
    """`content` as JSON with its ETag, or 304 where the client holds the very same."""
    response = json_response(content, headers=headers)
    body = response.body
    tag = blake2b(body if isinstance(body, bytes) else b"", digest_size=16).hexdigest()
    known = {each.value for each in request.if_none_match or ()}
    if tag in known or "*" in known:
        response = web.Response(status=304, headers=headers)
    response.etag = tag
    return response
