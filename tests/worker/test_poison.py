"""A task that kills whatever process runs it, beside nine that do not, on real processes that a supervisor restarts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taskqueue.schema import TaskStatus
from taskqueue.store.tasks import TaskStore
from tests.conftest import StartService
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ
from tests.support.stored import found, submitted
from tests.support.user_actions import MODULE, UserActions

FINAL = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
NEIGHBOURS = 9
MAX_ATTEMPTS = 2
KILLED = 2 + MAX_ATTEMPTS
"""Twice in company, which is forgiven; then alone, which counts."""


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_task_that_kills_workers_fails_and_takes_no_neighbour_with_it(
    start_service: StartService, database: Path, store: TaskStore, clean_rabbitmq: RabbitMQ
) -> None:
    """After its attempts, and not for ever: one worker is enough to finish all the others."""
    UserActions(database.parent)
    settings = {
        "DATABASE_URL": f"sqlite:///{database}",
        "BROKER_URL": clean_rabbitmq.url,
        "ACTIONS": MODULE,
        "MAX_ATTEMPTS": MAX_ATTEMPTS,
    }
    neighbours = [await submitted(store, "slow") for _ in range(NEIGHBOURS)]
    poison = await submitted(store, "die")

    started = await _supervised(lambda: start_service("taskqueue_worker", **settings), store, [poison, *neighbours])

    await _check(store, database, poison, neighbours)
    assert started == KILLED + 1


async def _supervised(start: Callable[[], Service], store: TaskStore, task_ids: list[str]) -> int:
    """How many processes it took, one after the other, until all tasks were final."""
    started = 0
    while not await _all_final(store, task_ids):
        service, started = start(), started + 1

        async def ended_or_done(service: Service = service) -> bool:
            return not service.alive or await _all_final(store, task_ids)

        await eventually(ended_or_done, within=120, what="the end of a worker, or of all tasks")
    return started


async def _check(store: TaskStore, database: Path, poison: str, neighbours: list[str]) -> None:
    failed = await found(store, poison)
    assert (failed.status, failed.attempts) == (TaskStatus.FAILED, MAX_ATTEMPTS)
    assert "worker was lost" in str(failed.error)
    assert [(await found(store, task_id)).status for task_id in neighbours] == [TaskStatus.COMPLETED] * NEIGHBOURS
    assert rows(database, "SELECT lost, alone FROM tasks WHERE id = ?", poison) == [(KILLED, 1)]
    # Those of its company, and no more: none died beside a suspect.
    assert rows(database, "SELECT max(lost) FROM tasks WHERE id <> ?", poison)[0][0] <= KILLED - MAX_ATTEMPTS


async def _all_final(store: TaskStore, task_ids: list[str]) -> bool:
    return all([(await found(store, task_id)).status in FINAL for task_id in task_ids])
