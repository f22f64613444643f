"""Open loop at a fixed rate: the time from when a task was to be posted until its result can be read from the store."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from benchmarks.completion import Completion
from benchmarks.figures import percentile
from benchmarks.load.connection import Connection

CONNECTIONS = 8
POLL_SECONDS = 0.0005
FINISH_SECONDS = 30.0
WARM_UP_TASKS = 20


@dataclass
class _Watch:
    completion: Completion
    waiting: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    lost: int = 0

    def look(self) -> None:
        for task_id in self.completion.finished_of(list(self.waiting)):
            self.latencies.append(time.monotonic() - self.waiting.pop(task_id))


@dataclass(frozen=True)
class Pace:
    """So many tasks in each of so many seconds."""

    per_second: float
    seconds: float


async def paced(port: int, request: bytes, completion: Completion, pace: Pace) -> dict[str, float]:
    """The latencies from POST to completed, in ms."""
    watch = _Watch(completion)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(port))
    looking = asyncio.create_task(_look_again_and_again(watch))
    began = time.monotonic()
    tasks = WARM_UP_TASKS + int(pace.per_second * pace.seconds)
    async with asyncio.timeout(pace.seconds + FINISH_SECONDS), asyncio.TaskGroup() as group:
        for number in range(tasks):
            due = began + number / pace.per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(_post(free, request, watch, due))
    await _finish(watch)
    looking.cancel()
    measured = watch.latencies[WARM_UP_TASKS:]
    return {
        "tasks": len(measured),
        "lost": len(watch.waiting) + watch.lost,
        "p50_ms": percentile(measured, 0.50) * 1000,
        "p99_ms": percentile(measured, 0.99) * 1000,
    }


async def _post(free: asyncio.Queue[Connection], request: bytes, watch: _Watch, due: float) -> None:
    connection = await free.get()
    status, body = await connection.ask(request)
    free.put_nowait(connection)
    if status == 202:
        watch.waiting[json.loads(body)["id"]] = due
    else:
        watch.lost += 1


async def _look_again_and_again(watch: _Watch) -> None:
    while True:
        if watch.waiting:
            watch.look()
        await asyncio.sleep(POLL_SECONDS)


async def _finish(watch: _Watch) -> None:
    give_up = time.monotonic() + FINISH_SECONDS
    while watch.waiting and time.monotonic() < give_up:  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(POLL_SECONDS)
