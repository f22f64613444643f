"""Waiting for something to become true, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

POLL_SECONDS = 0.02


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, within: float = 10.0, what: str = "the condition"
) -> Any:
    """The first truthy answer of `condition`, asked again and again for `within` seconds; then AssertionError."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come true within {within:g} s; last answer: {answer!r}"
        await asyncio.sleep(POLL_SECONDS)
