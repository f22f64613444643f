"""Telling a lost connection from a cancelled task: aiormq cancels whatever waits on a connection that it gives up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from taskqueue.broker.amqp.session import Session, kept_open, lost_not_cancelled


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


async def test_a_stop_while_it_connects_is_a_stop() -> None:
    """Also where the driver takes it for a failure to connect: else a process that was told to stop never ends."""
    begun = asyncio.Event()

    @asynccontextmanager
    async def connect() -> AsyncIterator[Session]:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise ConnectionError("could not connect") from None
        yield NotImplemented

    async def use() -> None:
        async with kept_open(connect, "c"):
            await begun.wait()

    using = asyncio.create_task(use())
    ended, _ = await asyncio.wait({using}, timeout=10)
    using.cancel()

    assert ended == {using}
