"""From what went wrong to what the client reads: always JSON, never a traceback, SQL or a path."""

from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from taskqueue import events
from taskqueue.errors import InvalidRequest, StoreError, StoreUnavailable
from taskqueue_api.requests import require_http
from taskqueue_api.responses import error_response

_SENTENCES: Final = {
    404: "not found",
    405: "method not allowed",
    413: "the body must be at most 1 MiB",
    417: "the Expect header can only ask for 100-continue",
}
_SUBMITTING: Final = ("/tasks", "/tasks/batch")
_KEPT_HEADERS: Final = (hdrs.ALLOW, hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE)


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every exception of an endpoint into its answer."""
    try:
        require_http(request)
        return await handler(request)
    except InvalidRequest as error:
        return error_response(str(error), 400)
    except StoreError as error:
        events.emit(events.REQUEST_FAILED, reason=str(error))
        submitting = request.method == hdrs.METH_POST and request.path in _SUBMITTING
        return error_response("failed to queue task" if submitting else store_sentence(error), 500)
    except web.HTTPException as error:
        return answer_http_exception(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client must not see it
        events.emit(events.REQUEST_FAILED, exc_info=error)
        return error_response("internal error", 500)


def store_sentence(error: StoreError) -> str:
    """What the client reads of a store that failed."""
    return "database unavailable" if isinstance(error, StoreUnavailable) else "query failed"


def answer_http_exception(error: web.HTTPException) -> web.Response:
    """The answer to what aiohttp itself refuses."""
    headers = {str(name): error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    response = error_response(_SENTENCES.get(error.status, error.reason), error.status, headers)
    if isinstance(error, web.HTTPRequestTimeout | web.HTTPRequestEntityTooLarge):
        response.force_close()  # the rest of the body would be read as the next request
    return response
