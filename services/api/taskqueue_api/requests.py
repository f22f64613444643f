"""Reading requests: who asks, and what they sent, within bounds of size and time."""

import asyncio
import re
from typing import Final
from uuid import uuid4

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from taskqueue.errors import InvalidRequest

MAX_BODY_BYTES: Final = 1024 * 1024
BODY_TIMEOUT_SECONDS: Final = 10.0
REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID: Final = web.RequestKey("request_id", str)
NOT_HTTP: Final = web.RequestKey("not_http", bool)
"""Set where what came over the connection was no request at all."""

IDEMPOTENCY_KEY_HEADER: Final = "Idempotency-Key"
TRACE_HEADER: Final = "traceparent"

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""w3.org/TR/trace-context, section 3.2: version, trace, parent and flags."""

_SAFE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")


@web.middleware
async def identify_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request the id that its client sent, or a new one, and says it in every log line."""
    sent = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = sent if _SAFE_REQUEST_ID.fullmatch(sent) else str(uuid4())
    # Not unbound afterwards: the context is this connection's own, and the next request on it binds its own id.
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    return await handler(request)


def require_http(request: web.Request) -> None:
    """Raises InvalidRequest where what came over the connection was no request."""
    if NOT_HTTP in request:
        raise InvalidRequest("not a valid HTTP request, or its headers are too large")


def idempotency_key(request: web.Request) -> str | None:
    """The key under which the client asks for one task at most. Raises InvalidRequest where it cannot be one."""
    sent = request.headers.getall(IDEMPOTENCY_KEY_HEADER, [])
    if not sent:
        return None
    key = ", ".join(sent)  # as one header, and so refused for its space where there are several
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"{IDEMPOTENCY_KEY_HEADER} must be 1 to 255 visible ASCII characters")
    return key


def trace_of(request: web.Request) -> str | None:
    """The client's trace, if it named one; a malformed one is as good as none."""
    sent = ", ".join(request.headers.getall(TRACE_HEADER, []))
    return sent if _TRACE.fullmatch(sent) else None


async def read_body(request: web.Request) -> bytes:
    """The body's bytes, whatever its Content-Type says.

    Raises HTTPUnsupportedMediaType for a compressed body, HTTPRequestEntityTooLarge over 1 MiB, HTTPRequestTimeout
    where it does not arrive within 10 s, InvalidRequest where it never will.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(reason="compressed bodies are not supported")
    try:
        if request.content.is_eof():  # most bodies come with their headers, and need no timer
            return await request.read()
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the body did not arrive in time") from None
    except (ConnectionError, web.RequestPayloadError):
        raise InvalidRequest("the body was cut off") from None
