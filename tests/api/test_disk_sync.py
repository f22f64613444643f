"""What is answered with a 2xx is on the disk, and a disk that cannot keep it is told to the client.

The API runs under strace, which counts how often the disk is asked to keep something, and can have it refuse (EIO).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.support.database import rows
from tests.support.http import Answer, Http, http_client
from tests.support.ports import free_port
from tests.support.processes import Service, running_service
from tests.support.strace import Syncs, require_strace

POSTS = 6


@pytest.fixture
def syncs(tmp_path: Path) -> Syncs:
    """What the disk is asked to keep."""
    require_strace()
    return Syncs(tmp_path / "syncs")


async def test_every_task_that_is_posted_alone_is_synced_before_its_answer(database: Path, syncs: Syncs) -> None:
    """When the answer is there, the disk has been asked once more than before, and has said that it is done."""
    with _traced_api(database, syncs) as service:
        async with http_client(await service.url()) as http:
            for number in range(POSTS):
                before = syncs.done
                assert (await _post(http, number)).status == 202
                assert syncs.done > before


# The first is of the log's head, the third and each that follows of a commit. The second is of the folder that holds
# a new log; SQLite leaves its answer aside (full_fsync in os_unix.c): the log itself has been kept.
@pytest.mark.parametrize("failing", ["1", "3", "5", "1+", "4+"])
async def test_no_task_is_accepted_that_the_disk_did_not_keep(
    database: Path, syncs: Syncs, start_service: StartService, failing: str
) -> None:
    """Its client hears 500, and the next one is served if the disk works again.

    After a crash all that was accepted is there, and nothing by half. What was refused may be there too, as whole as
    the rest: its client asks again by its key, and has one task.
    """
    with _traced_api(database, syncs, failing=failing) as service:
        async with http_client(await service.url()) as http:
            answers = [await _post(http, number) for number in range(POSTS)]
            assert (await http.get("/tasks")).status == 200
        service.kill()

    refused = [number for number, answer in enumerate(answers) if answer.is_error(500, "failed to queue task")]
    accepted = {number: answer.json["id"] for number, answer in enumerate(answers) if answer.status == 202}
    assert syncs.refused > 0
    assert len(refused) + len(accepted) == POSTS
    assert len(refused) == 1 or failing.endswith("+")
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert _kept(database) == rows(database, "SELECT tally FROM tallies WHERE name = 'accepted'")

    again = start_service("taskqueue_api", **_settings(database))
    async with http_client(await again.url()) as http:
        for number, task_id in accepted.items():
            assert (await http.task(task_id))["action"] == f"action {number}"
        assert [(await _post(http, number)).status for number in refused] == [202] * len(refused)
    assert _kept(database) == [(POSTS,)]


def _kept(database: Path) -> Sequence[tuple[int]]:
    return [(count,) for (count,) in rows(database, "SELECT count(*) FROM tasks")]


async def _post(http: Http, number: int) -> Answer:
    return await http.post({"action": f"action {number}"}, Idempotency_Key=f'"{number}"')


def _settings(database: Path) -> dict[str, object]:
    return {
        "DATABASE_URL": f"sqlite:///{database}",
        "BROKER_URL": f"amqp://127.0.0.1:{free_port()}/",
        "PORT": 0,
    }


@contextmanager
def _traced_api(database: Path, syncs: Syncs, *, failing: str = "") -> Iterator[Service]:
    under = syncs.command(failing=failing)
    log_file = database.with_name("traced.log")
    with running_service("taskqueue_api", database.parent, log_file, _settings(database), under=under) as service:
        yield service
