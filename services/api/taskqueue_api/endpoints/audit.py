"""`GET /audit`: whether every accepted task is where it must be."""

import asyncio
from dataclasses import asdict
from typing import Final

from aiohttp import hdrs, web

from taskqueue.audit import Report, summed
from taskqueue.errors import InvalidRequest
from taskqueue_api.collaborators import COLLABORATORS
from taskqueue_api.responses import error_response, json_response

AT_WORK: Final = web.AppKey("audit_at_work", asyncio.Lock)
"""One at a time: it reads every row."""

_SWITCH: Final = {"0": False, "1": True}


async def audit(request: web.Request) -> web.Response:
    """`GET /audit?integrity=1`: 200, whatever it finds; `balanced` says whether any check failed."""
    asked = request.query.get("integrity", "0")
    if asked not in _SWITCH:
        raise InvalidRequest("integrity must be 0 or 1")
    at_work = request.app[AT_WORK]
    if at_work.locked():
        return error_response("an audit is at work already", 429, {hdrs.RETRY_AFTER: "5"})
    async with at_work:
        report = await request.app[COLLABORATORS].auditor.report(integrity=_SWITCH[asked])
    return json_response(_told(report), headers={hdrs.CACHE_CONTROL: "no-store"})


def _told(report: Report) -> dict[str, object]:
    holdings = report.facts.holdings
    claims = report.facts.claims
    return {
        "balanced": report.balanced,
        "taken_at": report.taken_at // 1000,
        "tasks": summed(report.facts),
        "broker": None if holdings is None else asdict(holdings),
        "claims": {"live": claims.live, "gone": claims.gone.count},
        "checks": [asdict(check) for check in report.checks],
    }
