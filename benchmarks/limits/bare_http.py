"""The limit of the API: aiohttp on uvloop that reads the same POST, does nothing, and answers the same 202."""

import sys

import uvloop
from aiohttp import web

_ANSWER = b'{"id":"0c9a4a0e-2f0b-4a5e-bb7c-5f7f4a3f9f11","status":"queued"}'


async def submit(request: web.Request) -> web.Response:
    """The endpoint; what is no task is refused, as everybody does, so that it can be seen to be up."""
    body = await request.read()
    status = 202 if b"action" in body else 400
    return web.Response(body=_ANSWER, status=status, content_type="application/json")


def main() -> None:
    """Serves on the port that the first argument says."""
    uvloop.install()
    app = web.Application()
    app.router.add_post("/tasks", submit)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
