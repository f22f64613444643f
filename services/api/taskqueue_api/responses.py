"""Writing responses: JSON, with the headers that all of them carry."""

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from pydantic_core import to_json

from taskqueue_api.requests import REQUEST_ID, REQUEST_ID_HEADER


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`content`, which may hold pydantic models, as JSON."""
    return web.Response(body=to_json(content), status=status, headers=headers, content_type="application/json")


def error_response(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """The one form of every error."""
    return json_response({"error": sentence}, status, headers)


async def dress_response(request: web.Request, response: web.StreamResponse) -> None:
    """Adds what every response carries, and takes away what tells strangers about our software."""
    response.headers.pop(hdrs.SERVER, None)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")  # tasks are nobody's but the client's
    if REQUEST_ID in request:
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
