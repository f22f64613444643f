"""Actions for journeys: of each kind one that lasts until it is called off, and one that says where it runs."""

import asyncio
import os
import time
from typing import Any

from taskqueue.actions import Context, Fail, action

NEVER = 3600


@action("last")
async def last(data: dict[str, Any], context: Context) -> None:
    """Waits."""
    await context.progress(0.25, "a quarter")
    await asyncio.sleep(NEVER)


@action("last_in_a_thread")
def last_in_a_thread(data: dict[str, Any], context: Context) -> None:
    """Looks now and then whether it must end."""
    context.report_progress(0.5, "half")
    while not context.cancelled:
        time.sleep(0.02)
    raise Fail("called off")


@action("last_in_a_process", process=True)
def last_in_a_process(data: dict[str, Any]) -> None:
    """Computes, and cannot be asked to end."""
    while True:
        pass


@action("which_process")
async def which_process(data: dict[str, Any]) -> int:
    """The worker's own."""
    return os.getpid()


@action("which_other_process", process=True)
def which_other_process(data: dict[str, Any]) -> int:
    """One of its pool."""
    return os.getpid()
