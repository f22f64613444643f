"""Services and schemas of neighbouring versions meet: they work, or refuse, and no row suffers."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from taskqueue import events
from taskqueue.clock import system_clock
from taskqueue.schema import TaskPayload
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.tasks import open_store
from taskqueue_migrate.runner import MIGRATIONS, upgrade
from tests.conftest import StartService
from tests.support.database import rows
from tests.support.http import http_client
from tests.support.ports import free_port

Process = subprocess.Popen[str]
Ended = subprocess.CompletedProcess[str]

ROUNDS = 3
REVISIONS = sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("0*.py"))
ADDITIVE = (
    "op.add_column('tasks', sa.Column('later', sa.Text())); "
    "op.create_table('later', sa.Column('id', sa.Integer(), primary_key=True))"
)


async def test_four_migrates_at_once_disturb_nobody_who_writes(
    database: Path, start: Callable[..., Process], end: Callable[[Process], Ended]
) -> None:
    """Again and again, while tasks are accepted: all exit 0, every task is there, and the file is whole."""
    await asyncio.to_thread(upgrade, database)
    accepted: list[str] = []

    async with open_store(database, system_clock) as store:

        async def accept() -> None:
            while True:
                payload = TaskPayload(id=f"id-{len(accepted)}", action="sum", data={}, created_at=1)
                await store.add(payload, system_clock())
                accepted.append(payload.id)

        accepting = asyncio.create_task(accept())
        for _ in range(ROUNDS):
            processes = [start() for _ in range(4)]
            ended = [await asyncio.to_thread(end, process) for process in processes]
            assert [each.returncode for each in ended] == [0, 0, 0, 0]
        assert not accepting.done()
        accepting.cancel()
        await asyncio.wait({accepting})

    assert len(accepted) > ROUNDS
    assert set(accepted) <= {row[0] for row in rows(database, "SELECT id FROM tasks")}
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("service", ["taskqueue_api", "taskqueue_worker"])
@pytest.mark.parametrize("revision", [revision for revision in REVISIONS if revision != SCHEMA_REVISION])
async def test_a_new_service_refuses_an_older_schema(
    database: Path, tmp_path: Path, start_service: StartService, service: str, revision: str
) -> None:
    """Exit code 65; the sentence says which revision is there, which is needed, and what to run. The file stays."""
    upgrade(database, migrations=_up_to(revision, tmp_path))
    before = rows(database, "SELECT name, sql FROM sqlite_master ORDER BY name")

    refused = start_service(service, DATABASE_URL=f"sqlite:///{database}", BROKER_URL=_nowhere(), **_port(service))

    assert await refused.ended() == 65
    assert refused.refusal == (
        f"the database is at revision {revision}, and this version needs revision {SCHEMA_REVISION}: "
        "run the migrate service of this version first"
    )
    assert rows(database, "SELECT name, sql FROM sqlite_master ORDER BY name") == before


@pytest.mark.parametrize("service", ["taskqueue_api", "taskqueue_worker"])
async def test_an_old_service_refuses_a_newer_schema(
    database: Path, start_service: StartService, add_migration: Callable[[str], Path], service: str
) -> None:
    """Exit code 65, though it might get along with it: it cannot know."""
    upgrade(database, migrations=add_migration(ADDITIVE))

    refused = start_service(service, DATABASE_URL=f"sqlite:///{database}", BROKER_URL=_nowhere(), **_port(service))

    assert await refused.ended() == 65
    assert "at revision 9999" in refused.refusal


async def test_services_that_run_outlive_a_migration_to_a_newer_schema(
    database: Path, start_service: StartService, add_migration: Callable[[str], Path]
) -> None:
    """Between migrate and the new containers the old ones are at work: what they accept is done, once, and is right.

    The API says that it is to be replaced.
    """
    upgrade(database)
    settings = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": _nowhere(), "SIMULATED_WORK_SECONDS": 0}
    api = start_service("taskqueue_api", PORT=0, **settings)
    worker = start_service("taskqueue_worker", **settings)
    async with http_client(await api.url()) as http:
        before = [await http.submitted("sum", {"numbers": [number]}) for number in range(20)]
        await worker.reported(events.WITHOUT_BROKER)

        await asyncio.to_thread(upgrade, database, migrations=add_migration(ADDITIVE))
        after = [await http.submitted("sum", {"numbers": [number]}) for number in range(20)]

        tasks = [await http.finished(task_id) for task_id in before + after]
        assert (await http.get("/readyz")).status == 503
    worker.terminate()
    api.terminate()

    assert [task["result"] for task in tasks] == [{"output": number} for number in (*range(20), *range(20))]
    assert {task["attempts"] for task in tasks} == {1}
    assert (await worker.ended(), await api.ended()) == (0, 0)
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "SELECT version_num FROM alembic_version") == [("9999",)]


def _up_to(revision: str, folder: Path) -> Path:
    """The migrations as they were when this revision was the newest."""
    older = folder / "older"
    shutil.copytree(MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (older / "versions").glob("0*.py"):
        if file.name[:4] > revision:
            file.unlink()
    return older


def _port(service: str) -> dict[str, int]:
    return {"PORT": 0} if service == "taskqueue_api" else {}


def _nowhere() -> str:
    return f"amqp://127.0.0.1:{free_port()}/"
