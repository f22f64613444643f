"""An async handler that blocks the event loop, against all advice: its task is done again, and the log names it."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskqueue import events
from taskqueue.actions import Context, action
from taskqueue.broker.amqp import session
from taskqueue.broker.connect import open_broker
from taskqueue.clock import system_clock
from taskqueue.schema import TaskStatus
from taskqueue.store.tasks import open_store
from taskqueue.sweep import dispatching
from taskqueue_worker import assembly, pulse
from taskqueue_worker.assembly import assemble_worker
from taskqueue_worker.settings import WorkSettings
from tests.conftest import StartService
from tests.support.builders import a_payload
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.http import http_client
from tests.support.rabbitmq import RabbitMQ
from tests.worker.conftest import Workshop

MODULE = "actions_that_block"
HEARTBEAT_SECONDS = 1
LEASE_SECONDS = 2
MINUTE = 60


@pytest.mark.docker
async def test_a_worker_that_is_blocked_loses_its_task_and_comes_back(
    workshop: Workshop, clean_rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ gives it up, another worker does the task, once is recorded; freed, it throws its own result away.

    Then it connects again, and performs the next task.
    """
    blocked, freed = threading.Event(), threading.Event()

    @action("block")
    async def block(_: dict[str, Any], context: Context) -> dict[str, int]:
        if context.attempt == 1:
            blocked.set()
            freed.wait(2 * MINUTE)
        return {"attempt": context.attempt}

    module = ModuleType(MODULE)
    module.block = block  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(session, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
    monkeypatch.setattr(assembly, "worker_name", lambda: threading.current_thread().name)
    try:
        async with _worker("one", workshop.database, clean_rabbitmq):
            await workshop.store.add(a_payload("blocks", action="block"), system_clock())
            await eventually(blocked.is_set, within=MINUTE, what="a blocked loop")
            async with _worker("two", workshop.database, clean_rabbitmq):
                task = await workshop.finished("blocks", within=MINUTE)
                await eventually(lambda: not _is_connected("one", clean_rabbitmq), within=MINUTE, what="its cut")
            freed.set()
            await workshop.reported(events.LEASE_LOST)
            assert await workshop.task("blocks") == task
            await workshop.store.add(a_payload("next", action="sum"), system_clock())
            following = await workshop.finished("next", within=MINUTE)
    finally:
        freed.set()

    assert (task.status, task.result) == (TaskStatus.COMPLETED, {"attempt": 2})
    assert following.status == TaskStatus.COMPLETED
    assert [workshop.column(task_id, "worker") for task_id in ("blocks", "next")] == ["two", "one"]
    assert len(workshop.reports(events.TASK_COMPLETED)) == 2
    finals = "SELECT count(*) FROM changes WHERE task_id = 'blocks' AND status = 'completed'"
    assert rows(workshop.database, finals) == [(1,)]


async def test_the_log_names_the_action_that_blocks(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it does, so that whoever looks for the worker that is silent finds it; once each time."""
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(pulse, "BLOCKED_SECONDS", 0.2)

    @action("careless")
    async def careless(data: dict[str, Any]) -> int:
        never = threading.Event()
        for _ in range(MINUTE * 100):
            if workshop.reports(events.LOOP_BLOCKED):
                never.wait(0.5)
                break
            never.wait(0.01)
        return len(workshop.reports(events.LOOP_BLOCKED))

    async with workshop.working(careless):
        with pulse.watching_pulse():
            task = await workshop.outcome("careless")

    assert task.result == 1
    assert workshop.reports(events.LOOP_BLOCKED)[0]["by"] == "handler of careless"


async def test_embedded_mode_names_it_too(start_service: StartService, tmp_path: Path) -> None:
    """As a process, and with what ships."""
    (tmp_path / f"{MODULE}.py").write_text(
        "import time\nfrom taskqueue.actions import action\n\n"
        "@action('careless')\nasync def careless(data: dict) -> None:\n    time.sleep(4)\n"
    )
    ours = {"DATABASE_URL": f"sqlite:///{tmp_path}/tasks.db", "PORT": 0, "ACTIONS": MODULE, "LOG_FORMAT": "json"}
    service = start_service("taskqueue_embedded", **ours)
    async with http_client(await service.url()) as http:
        task = await http.finished(await http.submitted("careless"))
    warning = await service.reported(events.LOOP_BLOCKED)

    assert (task["status"], warning["by"]) == ("completed", "handler of careless")
    service.terminate()
    assert await service.ended() == 0


@asynccontextmanager
async def _worker(name: str, database: Path, rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    """A worker with an event loop of its own, in a thread, for as long as the block runs."""
    ended: Future[None] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def work() -> None:
        settings = WorkSettings(actions=MODULE, simulated_work_seconds=0).model_copy(
            update={"lease_seconds": LEASE_SECONDS}
        )
        async with (
            open_store(database, system_clock) as store,
            open_broker(rabbitmq.url, name) as broker,
            dispatching(store, broker, system_clock, settings.max_attempts, 0) as (_, sweep),
        ):
            await assemble_worker(broker, store, sweep.deliveries, system_clock, settings).run(stop)

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                ended.set_result(runner.run(work()))
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            ended.set_exception(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, MINUTE)
    ended.result(timeout=1)


def _is_connected(name: str, rabbitmq: RabbitMQ) -> bool:
    listed = rabbitmq.table("list_connections", "client_properties")
    return f"{name} consuming" in str(listed)
