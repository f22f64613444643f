"""What becomes of tasks, told to whoever listens in this process: one cursor, however many they are.

    table `changes` ──one look──▶ Feed ──▶ Subscription (a waiter)
                                       ──▶ Subscription (a stream)

A commit of this process wakes the feed at once; for those of others it looks every 20 ms, and only while somebody
listens. Nothing reads the database for each listener.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from taskqueue import events
from taskqueue.errors import StoreError, StoreUnavailable
from taskqueue.store.changes import Event
from taskqueue.store.doors.listening import Listening
from taskqueue.store.following import Follower

LOOK_SECONDS: Final = 0.02
PAUSE_SECONDS: Final = 0.002
"""At least so long between two looks: under load each then finds many changes, which no client could notice."""

AGAIN_SECONDS: Final = 0.5
"""How long to leave a database alone that does not answer."""

BEGIN_SECONDS: Final = 5.0
PAGE: Final = 500
MAX_WAITING: Final = 2_000
"""Changes that wait for one listener. Who falls further behind is not listening, and is let go."""


class Subscription:
    """What one listener hears: all that it wants of the changes after `start`, in order, until it ends.

    `start` may be some milliseconds ago; whoever has looked at the store since knows from when on it is news.
    """

    def __init__(self, task_id: str | None, wants: Callable[[Event], bool]) -> None:
        self.task_id = task_id
        self.start: int | None = None
        self.ended = False
        self._wants = wants
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()

    async def next(self) -> Sequence[Event]:
        """All that has arrived, once anything has; nothing where it has ended. May be cancelled without a loss."""
        while not self._waiting and not self.ended:
            self._arrived.clear()
            await self._arrived.wait()
        heard = [] if self.ended else list(self._waiting)
        self._waiting.clear()
        return heard

    def end(self) -> None:
        """Nothing more is heard."""
        self.ended = True
        self._arrived.set()

    def tell(self, event: Event) -> None:
        """Puts a change in line. Where too many wait already, it ends instead."""
        if not self._wants(event):
            return
        if len(self._waiting) >= MAX_WAITING:
            self.end()
            return
        self._waiting.append(event)
        self._arrived.set()


class Feed:
    """Follows the changes for all subscriptions of a process. `running` does the work."""

    def __init__(self, store: Listening) -> None:
        self._store = store
        self._listeners: dict[str | None, set[Subscription]] = {}
        self._cursor: int | None = None
        self._woken = asyncio.Event()
        self._begun = asyncio.Event()
        self._listened_to = asyncio.Event()
        self._open = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feeds its subscriptions for as long as the block runs; where one is still there at the end, it ends."""
        self._open = True
        follower = self._store.follow(self._woken.set)
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._follow(follower), name="feed")
                try:
                    yield
                finally:
                    self.end()
                    task.cancel()
        finally:
            await follower.close()

    def end(self) -> None:
        """Ends every subscription, and each that is asked for from now on."""
        self._open = False
        for subscription in self._everybody():
            subscription.end()
        self._begun.set()

    @asynccontextmanager
    async def subscribed(
        self, task_id: str | None = None, wants: Callable[[Event], bool] = lambda _: True
    ) -> AsyncIterator[Subscription]:
        """A subscription to the changes of one task, or of all. Raises StoreUnavailable where it cannot begin."""
        subscription = Subscription(task_id, wants)
        if not self._open:
            subscription.end()
        listeners = self._listeners.setdefault(task_id, set())
        listeners.add(subscription)
        try:
            if self._open:
                await self._begin(subscription)
            yield subscription
        finally:
            listeners.discard(subscription)
            if not listeners and self._listeners.get(task_id) is listeners:
                del self._listeners[task_id]

    async def _begin(self, subscription: Subscription) -> None:
        subscription.start = self._cursor
        self._listened_to.set()
        while subscription.start is None and not subscription.ended:
            try:
                async with asyncio.timeout(BEGIN_SECONDS):
                    await self._begun.wait()
            except TimeoutError:
                raise StoreUnavailable("the changes of tasks cannot be read") from None

    async def _follow(self, follower: Follower) -> None:
        failing = False
        while True:
            await self._somebody()
            try:
                complete = await self._look(follower)
                failing = False
            except StoreError as error:
                if not failing:
                    events.emit(events.FEED_FAILED, reason=str(error))
                failing = True
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            await asyncio.sleep(PAUSE_SECONDS)
            if complete:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS - PAUSE_SECONDS):
                        await self._woken.wait()

    async def _somebody(self) -> None:
        """Returns while somebody listens. Whoever comes after a silence hears what happens from then on."""
        while not self._listeners:
            self._cursor = None
            self._begun.clear()
            self._listened_to.clear()
            await self._listened_to.wait()

    async def _look(self, follower: Follower) -> bool:
        """Whether all that has happened has been told."""
        self._woken.clear()  # before the look: what is committed during it is looked for at once
        if self._cursor is None:
            self._cursor = await follower.newest()
            for subscription in self._everybody():
                subscription.start = self._cursor
            self._begun.set()
        page = await follower.after(self._cursor, PAGE)
        for event in page:
            self._tell(event)
        return len(page) < PAGE

    def _tell(self, event: Event) -> None:
        self._cursor = event.seq
        for key in (event.change.task_id, None):
            for subscription in self._listeners.get(key, ()):
                subscription.tell(event)

    def _everybody(self) -> Iterable[Subscription]:
        return [subscription for listeners in self._listeners.values() for subscription in listeners]
