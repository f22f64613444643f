"""An event loop whose time is made up, and whose order is drawn.

    lane "api-1"      ▶ h h h ┐
    lane "worker-1"   ▶ h     ├─ drawn by the seed ─▶ runs; where nothing is left to do, time jumps to the next timer
    lane "broker"     ▶ h h   ┘

A lane is what one process of the simulation runs: within it callbacks keep asyncio's order, between lanes is none.
Work that would go to a thread runs here, after a drawn while, so that nothing happens outside of the seed's reach.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

MAX_STEPS: Final = 400_000
"""Callbacks of one history: many times what any has needed. More is a loop that never comes to rest."""

_MAX_BURST: Final = 6


Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")


class Restless(Exception):
    """The simulated system never comes to rest."""


class Lane:
    """The callbacks of one process, in order. `crash` is how whatever runs in it can bring it down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stalled = False
        self.waits = False
        self.ready: deque[asyncio.Handle] = deque()
        self.crash: Callable[[], None] = _nothing
        self._context = Context()
        self.hold(LANE, self)

    def hold(self, variable: ContextVar[Any], value: Any) -> None:
        """Gives a variable its value for all that runs here."""
        self._context.run(variable.set, value)

    def context(self) -> Context:
        """A context of this lane: what is scheduled with it runs here."""
        return self._context.copy()


LANE: Final[ContextVar[Lane]] = ContextVar("lane")


class _Serial:
    """Hashes by age, so that a set of tasks is walked in the same order each time."""

    _numbers = count(1)
    _number = 0

    def __hash__(self) -> int:
        if self._number == 0:
            self._number = next(_Serial._numbers)
        return self._number


class _Future(_Serial, asyncio.Future[Any]):
    """A future of the simulation."""


class _Task(_Serial, asyncio.Task[Any]):
    """A task of the simulation, in its lane."""

    lane: Lane


class VirtualLoop(asyncio.BaseEventLoop):
    """`draw` answers numbers from 0 to 1, `latency` how long (s) a thread takes for one half of what it does."""

    def __init__(self, draw: Callable[[], float], latency: Callable[[], float]) -> None:
        super().__init__()
        _Serial._numbers = count(1)
        self.complaints: list[str] = []
        self.world = Lane("world")
        self._now = 0.0
        self._steps = 0
        self._draw = draw
        self._latency = latency
        self._runnable: list[Lane] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()
        self._tasks: list[_Task] = []
        self._ended = False

    def play(self, main: Coroutine[Any, Any, None]) -> None:
        """Runs until `main` has ended, and raises what it raised; then nothing runs any more."""
        events._set_running_loop(self)
        try:
            done = self.create_task(main, context=self.world.context())
            while not done.done():
                self._step()
            done.result()
        finally:
            self._clear_away()
            events._set_running_loop(None)
            self.close()

    def stall(self, lane: Lane, seconds: float) -> None:
        """Stops a lane for so long, as SIGSTOP and SIGCONT do."""
        lane.stalled = True
        self._withdraw(lane)
        self.call_later(seconds, self._resume, lane, context=self.world.context())

    def kill(self, lane: Lane) -> None:
        """Nothing of this lane ever runs again, be it the end of a `finally`."""
        lane.alive = False
        lane.ready.clear()
        self._withdraw(lane)

    def time(self) -> float:
        """The made-up time, in seconds from the start of the history."""
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Arguments]], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio.AbstractEventLoop`."""
        return _Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> Any:
        """See `asyncio.AbstractEventLoop`."""
        task = _Task(coro, loop=self, name=name, context=context)
        task.lane = context.get(LANE, self.world) if context else LANE.get(self.world)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: object, func: Callable[..., Answer], *args: object) -> asyncio.Future[Answer]:
        """Runs `func` in this thread, in one go, after a while; its result is known after another while."""
        answer: asyncio.Future[Answer] = self.create_future()
        self.call_later(self._latency(), self._run_for, answer, func, args)
        return answer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Whatever would go to the log here is a fault of the system, unless its process is dead: nobody was left."""
        task = context.get("future") or context.get("task")
        if isinstance(task, _Task) and not task.lane.alive:
            return
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_for(self, answer: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        result = func(*args)
        if LANE.get().alive:
            self.call_later(self._latency(), _tell, answer, result)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Restless(f"more than {MAX_STEPS} steps")
        while not self._runnable:
            self._jump()
        lane = self._runnable[int(self._draw() * len(self._runnable))]
        for _ in range(1 + int(self._draw() * _MAX_BURST)):
            handle = lane.ready.popleft()
            if not handle._cancelled:
                handle._run()
            if not lane.ready or lane.stalled:
                break
        if not lane.ready:
            self._withdraw(lane)

    def _jump(self) -> None:
        """To the next timer. There is always one: whoever plays has a deadline."""
        when, _, handle = heappop(self._timers)
        if not handle._cancelled:
            self._now = max(self._now, when)
            self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        lane: Lane = handle._context.get(LANE, self.world)  # type: ignore[attr-defined]
        if self._ended or not lane.alive:
            return
        lane.ready.append(handle)
        self._line_up(lane)

    def _resume(self, lane: Lane) -> None:
        lane.stalled = False
        if lane.ready and lane.alive:
            self._line_up(lane)

    def _line_up(self, lane: Lane) -> None:
        if not lane.waits and not lane.stalled:
            lane.waits = True
            self._runnable.append(lane)

    def _withdraw(self, lane: Lane) -> None:
        if lane.waits:
            lane.waits = False
            self._runnable.remove(lane)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _clear_away(self) -> None:
        """Leaves the coroutines that have not ended to the collector: what they still do reaches nobody any more."""
        self._ended = True
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.clear()
        self._timers.clear()
        self._runnable.clear()


def _tell(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _nothing() -> None:
    """Nobody is brought down."""
