"""Telling a lost connection from a cancelled task: aiormq cancels whatever waits on a connection that it gives up."""

import asyncio

import pytest

from taskqueue.broker.amqp.session import lost_not_cancelled


async def test_what_a_lost_connection_cancels_is_an_error() -> None:
    """The task that waited lives on, and hears that the connection is lost."""
    waited_for = asyncio.get_running_loop().create_future()
    waited_for.cancel()

    with pytest.raises(ConnectionResetError, match="given up"), lost_not_cancelled():
        await waited_for


async def test_who_is_cancelled_is_cancelled() -> None:
    """A stop is a stop."""

    async def wait() -> None:
        with lost_not_cancelled():
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_is_a_timeout() -> None:
    """A bound around the wait keeps its own meaning."""

    async def wait() -> None:
        async with asyncio.timeout(0.01):
            with lost_not_cancelled():
                await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        await wait()
