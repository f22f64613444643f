"""Keeping a connection to RabbitMQ: open a session, wait until any part of it ends, close it, open the next."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from yarl import URL

from taskqueue import events
from taskqueue.retry import Backoff

HEARTBEAT_SECONDS: Final = 15  # rabbitmq.com/docs/heartbeats: between 5 and 20 s is best
OPEN_TIMEOUT_SECONDS: Final = 15.0
CLOSE_TIMEOUT_SECONDS: Final = 3.0
REPORT_AGAIN_SECONDS: Final = 60.0
RECONNECT: Final = Backoff(first=0.5, ceiling=5)
# aio-pika raises RuntimeError for what is asked of a connection that has just closed.
SESSION_ERRORS: Final = (AMQPError, OSError, TimeoutError, RuntimeError)


@contextmanager
def lost_not_cancelled() -> Iterator[None]:
    """Raises ConnectionResetError where aiormq gives a connection up: it cancels whatever waits for an answer."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionResetError("the connection was given up") from error


class Session:
    """One connection, and the end that all of its parts share."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.reason = ""
        self._connection = connection
        self._ended = asyncio.Event()
        # aio-pika holds channels weakly; a channel that is collected closes.
        self._channels: list[AbstractChannel] = []
        connection.close_callbacks.add(lambda _, error: self.end(f"the connection closed ({error!r})"))

    @property
    def alive(self) -> bool:
        """Whether every part is open, as far as this side knows."""
        return not self._ended.is_set()

    async def open_channel(self) -> AbstractChannel:
        """A channel whose publishes are confirmed, and raise where no queue takes them."""
        channel = await self._connection.channel(on_return_raises=True)
        self._channels.append(channel)
        channel.close_callbacks.add(lambda _, error: self.end(f"a channel closed ({error!r})"))
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self.end("the broker cancelled a consumer"))
        return channel

    async def open_trial_channel(self) -> AbstractChannel:
        """A channel to ask something that may be refused: its end is not the session's."""
        channel = await self._connection.channel()
        self._channels.append(channel)
        return channel

    def forget(self, channel: AbstractChannel) -> None:
        """Keeps a channel no longer that was asked something."""
        self._channels.remove(channel)

    def end(self, reason: str) -> None:
        """Ends the session; the first reason stands."""
        self.reason = self.reason or reason
        self._ended.set()

    async def ended(self) -> None:
        """Returns when the session has ended."""
        await self._ended.wait()


@asynccontextmanager
async def open_session(url: str, name: str) -> AsyncIterator[Session]:
    """A session at `url`, which RabbitMQ lists as `name`. Raises one of SESSION_ERRORS where it gets none."""
    address = URL(url).update_query(heartbeat=HEARTBEAT_SECONDS)
    # Not by aio_pika.connect, which leaves a connection that cannot be opened to the garbage collector.
    connection = aio_pika.Connection(address, client_properties={"connection_name": name})
    try:
        await connection.connect(timeout=OPEN_TIMEOUT_SECONDS)
        yield Session(connection)
    finally:
        with suppress(*SESSION_ERRORS):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.close()


class Reports:
    """What the log hears of a connection: a kind of loss once a minute at most, and a return after a loss it heard."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._told: dict[str, float] = {}
        self._owes_return = True

    def connected(self) -> None:
        """The connection is there."""
        if self._owes_return:
            events.emit(events.BROKER_CONNECTED, connection=self._name)
        self._owes_return = False

    def lost(self, kind: str, reason: str) -> None:
        """The connection is gone, or there is none, for a reason of this kind."""
        now = self._clock()
        if now - self._told.get(kind, -math.inf) >= REPORT_AGAIN_SECONDS:
            self._told[kind] = now
            self._owes_return = True
            events.emit(events.BROKER_LOST, connection=self._name, reason=reason)


OpenTenancy = Callable[[], AbstractAsyncContextManager[Session]]
"""Opens a session with everything on it that its user needs, within OPEN_TIMEOUT_SECONDS."""


@asynccontextmanager
async def kept_open(open_tenancy: OpenTenancy, name: str) -> AsyncIterator[None]:
    """Holds one session after the other for as long as the block runs, with growing, jittered pauses after failures."""
    keeper = asyncio.create_task(_keep_open(open_tenancy, name), name=f"keep open: {name}")
    try:
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _keep_open(open_tenancy: OpenTenancy, name: str) -> None:
    failures, reports = 0, Reports(name)
    while True:
        try:
            with lost_not_cancelled():
                async with open_tenancy() as session:
                    reports.connected()
                    failures = 0
                    await session.ended()
                    reports.lost(session.reason.partition("(")[0], session.reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next session may do without it
            reports.lost(type(error).__name__, repr(error))
        if _is_cancelled():
            return  # a driver that is cancelled while it connects may say that it could not connect
        failures += 1
        await asyncio.sleep(RECONNECT.delay(failures, random.random()))  # noqa: S311 - jitter needs no secrecy
