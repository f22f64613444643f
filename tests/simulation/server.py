"""The broker of a history: the product's memory broker in a place of its own, out of reach now and then."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import Clock
from taskqueue.schema import NORMAL
from tests.simulation.chance import Chance
from tests.simulation.loop import Lane, VirtualLoop
from tests.simulation.observer import Observer
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.connection import Connection


class Queue(MemoryBroker):
    """The product's memory broker, which can lose what it holds, and mix it up. It notes what it has confirmed."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    async def publish(self, bodies: Sequence[bytes], priority: int = NORMAL) -> Sequence[bool]:
        """See `contract.Broker`."""
        confirmed = await super().publish(bodies, priority)
        self._observer.confirmed.update(
            attempt_of(body) for body, taken in zip(bodies, confirmed, strict=True) if taken
        )
        return confirmed

    def lose_one(self, draw: float) -> None:
        """One of the messages that wait is gone."""
        waiting = [level for level in (self._ready._high, self._ready._normal) if level]
        if waiting:
            level = waiting[int(draw * len(waiting))]
            del level[int(draw * len(level))]

    def lose_all(self) -> None:
        """All that waits is gone, as with the disk."""
        self._ready._high.clear()
        self._ready._normal.clear()

    def turn_round(self) -> None:
        """The last becomes the first."""
        self._ready._high.reverse()
        self._ready._normal.reverse()

    @property
    def held(self) -> int:
        """Messages that wait, or are with a consumer."""
        return len(self._ready) + sum(len(channel.unsettled) for channel in self._channels)


class Server:
    """Where the messages are: a process of its own that never dies, but can be out of reach."""

    def __init__(self, loop: VirtualLoop, chance: Chance, observer: Observer, trace: Trace, clock: Clock) -> None:
        self.loop = loop
        self.chance = chance
        self.observer = observer
        self.trace = trace
        self.clock = clock
        self.queue = Queue(observer)
        self.up = True
        self.connections: list[Connection] = []
        self._context = Lane("broker").context()

    def go_down(self, seconds: float, *, wiped: bool) -> None:
        """Out of reach for so long; `wiped`, it comes back with an empty disk."""
        if not self.up:
            return
        self.trace.note("broker goes down", f"{seconds:.1f} s", "wiped" if wiped else "")
        self.up = False
        for connection in list(self.connections):
            connection.cut(seconds + self.chance.between(0, 2))
        if wiped:
            self.later(0, self.queue.lose_all)
        self.later(seconds, self._come_up)

    def later(self, seconds: float, act: Callable[..., Any], *arguments: Any) -> None:
        """Does something here, in so many seconds."""
        self.loop.call_later(seconds, act, *arguments, context=self._context.copy())

    def take(self, body: bytes, priority: int) -> bool:
        """A message arrives; whether it is confirmed."""
        if not self.up:
            return False
        [taken] = at_once(self.queue.publish([body], priority))
        return bool(taken)

    def _come_up(self) -> None:
        self.up = True
        self.trace.note("broker is up")


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that never waits, as those of the memory broker do not."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def attempt_of(body: bytes) -> tuple[str, int]:
    """Which task a message is for, and after how many attempts."""
    message = from_json(body)
    return message["id"], message["attempt"]
