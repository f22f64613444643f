"""A message at its consumer, and what the consumer says of it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from taskqueue.broker.contract import Delivery
from taskqueue.store.claims import Claimed, NotClaimed
from tests.simulation.loop import Lane
from tests.simulation.server import Server, at_once, attempt_of


class Arriving:
    """A delivery at its consumer: see `contract.Delivery`. It knows when it must not be acknowledged yet."""

    def __init__(self, server: Server, lane: Lane, delivery: Delivery, is_open: Callable[[], bool]) -> None:
        self.body = delivery.body
        self._server = server
        self._lane = lane
        self._delivery = delivery
        self._is_open = is_open
        self._answer: Claimed | NotClaimed | None = None

    def answered(self, answer: Claimed | NotClaimed) -> None:
        """The worker knows what came of its claim."""
        self._answer = answer

    async def ack(self) -> None:
        """See `contract.Delivery`."""
        self._check_ack()
        if self._server.chance.happens("crash before ack"):
            await crashed(self._lane)
        self._send(self._delivery.ack)
        if self._server.chance.happens("crash after ack"):
            await crashed(self._lane)

    async def release(self) -> None:
        """See `contract.Delivery`."""
        self._send(self._delivery.release)

    async def bury(self, reason: str) -> None:
        """See `contract.Delivery`."""
        self._server.observer.breaks(f"no message of ours is buried, for {reason}")

    def _check_ack(self) -> None:
        task_id, attempt = attempt_of(self.body)
        self._server.trace.note("ack", task_id, attempt)
        unsettled = isinstance(self._answer, Claimed) and self._server.observer.is_running(task_id, attempt + 1)
        if self._answer is None or unsettled:
            self._server.observer.breaks("a message is kept until what came of it is on disk", task_id)

    def _send(self, wish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._is_open():
            self._server.later(self._server.chance.latency(), settle, wish)


async def crashed(lane: Lane) -> None:
    """The process ends here."""
    lane.crash()
    await asyncio.sleep(1)  # from which nobody awakes


def settle(wish: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Does at the server, at once, what a consumer wished."""
    at_once(wish())
