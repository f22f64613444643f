"""Telling a lost connection from a cancelled task: aiormq cancels whatever waits on a connection that it gives up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from taskqueue.broker.amqp import session
from taskqueue.broker.amqp.session import RECONNECT, Session, kept_open, lost_not_cancelled
from tests.support.eventually import eventually

WORKERS = 20
ROUNDS = 5


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


async def test_workers_that_lost_one_broker_do_not_come_back_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits as long as it drew by itself, in every round anew: a broker that starts meets them one by one."""
    waits = _Waits()
    monkeypatch.setattr(session, "RECONNECT", waits)

    def connect() -> AbstractAsyncContextManager[Session]:
        raise ConnectionError("nobody there")

    async with AsyncExitStack() as stack:
        for number in range(WORKERS):
            await stack.enter_async_context(kept_open(connect, str(number)))
        await eventually(lambda: len(waits.of(ROUNDS)) >= WORKERS)

    for failures in range(1, ROUNDS + 1):
        drawn = sorted(waits.of(failures))
        longest = RECONNECT.delay(failures, 1)
        assert len(set(drawn)) == len(drawn) == WORKERS
        assert longest / 2 <= drawn[0]
        assert drawn[-1] <= longest
        # Twenty draws lie within a quarter of their range once in ten thousand million times.
        assert drawn[-1] - drawn[0] > longest / 8


class _Waits:
    """Notes what would be waited, by the number of failures before it, and waits next to nothing."""

    def __init__(self) -> None:
        self._noted: list[tuple[int, float]] = []

    def of(self, failures: int) -> list[float]:
        """The waits after so many failures."""
        return [wait for number, wait in self._noted if number == failures]

    def delay(self, failures: int, draw: float) -> float:
        """See `Backoff.delay`."""
        self._noted.append((failures, RECONNECT.delay(failures, draw)))
        return 0.001
