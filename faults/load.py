"""A steady load: posts requests one after another, and sends those with a key again until they are accepted."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from faults.asks import Acceptance, Ask, ask, draw
from taskqueue.retry import Backoff

ASK_SECONDS: Final = 8.0
TOO_MANY: Final = 429
PAUSE: Final = Backoff(first=0.4, ceiling=3)
"""Between two tries: many clients that wait for one API must not become its next fault."""

PATIENCE_SECONDS: Final = 20.0
"""How long after the end of a load its requests with a key are still sent again."""

REPLAYED: Final = 0.1
"""The share of accepted requests with a key that are sent once more, as by a client that lost the answer."""


def now() -> int:
    """The clock of this machine, which the services share, in ms."""
    return time.time_ns() // 1_000_000


class Load:
    """The requests of one round. `urls` tells where APIs listen just now."""

    def __init__(self, session: ClientSession, urls: Callable[[], Sequence[str]], seed: int, prefix: str) -> None:
        self.asks: list[Ask] = []
        self._session = session
        self._urls = urls
        # Apart from one another: how often something is sent again must not decide what is asked next.
        self._draws = Random(f"draws {seed}")
        self._chance = Random(f"chance {seed}")
        self._prefix = prefix
        self._numbers = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._ends_at: float | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, per_second: float) -> AsyncIterator[None]:
        """Posts so many a second for as long as the block runs; then waits for those that are still on their way."""
        posting = asyncio.create_task(self._post_steadily(per_second))
        try:
            yield
        finally:
            posting.cancel()
            self._ends_at = time.monotonic() + PATIENCE_SECONDS
        if self._sending:
            await asyncio.wait(self._sending, timeout=PATIENCE_SECONDS + 2 * ASK_SECONDS)

    def burst(self, kind: str, count: int) -> None:
        """Posts so many of one kind at once; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._post_at_once, kind, count)

    def expect(self, foreign: Ask, task_id: str) -> None:
        """Holds a task to what is expected of it that another producer has handed to the broker."""
        foreign.accepted.append(Acceptance(task_id, now()))
        self.asks.append(foreign)

    def _post_at_once(self, kind: str, count: int) -> None:
        for _ in range(count):
            tag = self._next_tag()
            self._start(ask(kind, self._chance.randrange(1_000_000), tag, f"key-{tag}"))

    def _next_tag(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"

    async def _post_steadily(self, per_second: float) -> None:
        while True:
            self._start(draw(self._draws, self._next_tag()))
            await asyncio.sleep(1 / per_second)

    def _start(self, one: Ask) -> None:
        one.sent_at = now()
        self.asks.append(one)
        sending = asyncio.create_task(self._send(one))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _send(self, one: Ask) -> None:
        wanted = 2 if one.key and self._chance.random() < REPLAYED else 1
        while len(one.accepted) < wanted:
            accepted = await self._post(one)
            if one.key is None or (self._ends_at is not None and time.monotonic() > self._ends_at):
                return
            if not accepted:
                await asyncio.sleep(PAUSE.delay(one.refusals, self._chance.random()))

    async def _post(self, one: Ask) -> bool:
        urls = self._urls()
        url = urls[self._chance.randrange(len(urls))]
        headers = {"Idempotency-Key": one.key} if one.key else {}
        try:
            async with self._session.post(
                f"{url}/tasks", data=one.body, headers=headers, timeout=ClientTimeout(total=ASK_SECONDS)
            ) as answer:
                body = await answer.read()
        except (ClientError, OSError, TimeoutError):
            one.refusals += 1
            return False
        if not 200 <= answer.status < 300:
            one.refusals += 1
            if 400 <= answer.status < 500 and answer.status != TOO_MANY:
                one.rejections.append(answer.status)
            return False
        one.accepted.append(Acceptance(json.loads(body)["id"], now()))
        return True
