"""What the tasks of a history do. Each result names the attempt that brought it about, so that no other can have."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from taskqueue.actions import Context, Fail, RetryAfter, action
from taskqueue.actions.registry import Registry
from taskqueue.retry import Backoff
from tests.simulation.loop import LANE

QUICK: Final = Backoff(first=0.2, ceiling=3)

Begin = Callable[[str, int], None]
BEGINS: Final[ContextVar[Begin]] = ContextVar("begins")
"""Told of each attempt when its handler begins."""


def registry() -> Registry:
    """The actions of every simulated worker."""
    return Registry(None, [echo, flaky, hopeless, patient, slow, deadly])


@action("echo")
async def echo(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Works a while."""
    return await _work(data, context)


@action("flaky", backoff=QUICK)
async def flaky(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Fails at first."""
    result = await _work(data, context)
    if context.attempt <= data["times"]:
        raise ValueError("not yet")
    return result


@action("hopeless")
async def hopeless(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Fails for good."""
    await _work(data, context)
    raise Fail("never")


@action("patient")
async def patient(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Asks for another attempt, later."""
    result = await _work(data, context)
    if context.attempt <= data["times"]:
        raise RetryAfter(1.5)
    return result


@action("slow", timeout=2, backoff=QUICK)
async def slow(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Takes too long at first, and then does not want to end."""
    if context.attempt <= data["times"]:
        BEGINS.get()(context.task_id, context.attempt)
        await _stay(6)
        return {"echo": data["value"], "attempt": context.attempt}
    return await _work(data, context)


@action("deadly", backoff=QUICK)
async def deadly(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Takes its worker down at first."""
    result = await _work(data, context)
    if context.attempt <= data["times"]:
        LANE.get().crash()
        await asyncio.sleep(1)  # from which nobody awakes
    return result


async def _work(data: dict[str, Any], context: Context) -> dict[str, Any]:
    BEGINS.get()(context.task_id, context.attempt)
    await asyncio.sleep(data["takes"])
    await context.progress(0.5)
    return {"echo": data["value"], "attempt": context.attempt}


async def _stay(seconds: float) -> None:
    """Sleeps so long, whoever would have it end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
