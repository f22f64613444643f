"""The bound on what waits, in the one process that accepts and works: a flood is turned away, and no 202 lost."""

import asyncio
from pathlib import Path

from tests.conftest import StartService
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.http import http_client

BOUND = 10
FLOOD = 200


async def test_a_flood_is_turned_away_and_every_202_is_done(start_service: StartService, tmp_path: Path) -> None:
    """Beyond the bound 503; what was accepted completes, nothing else is there, and then there is room again."""
    database = tmp_path / "data" / "tasks.db"
    slow = {"CHANNELS": 1, "PREFETCH_COUNT": 1, "SIMULATED_WORK_SECONDS": 0.2, "MAX_WAITING": BOUND}
    service = start_service(
        "taskqueue_embedded", DATABASE_URL=f"sqlite:///{database}", PORT=0, LOG_FORMAT="json", **slow
    )
    async with http_client(await service.url()) as http:
        answers = await asyncio.gather(*(http.post({"action": "sum"}) for _ in range(FLOOD)))
        accepted = {answer.json["id"] for answer in answers if answer.status == 202}
        for task_id in accepted:
            assert (await http.finished(task_id, within=60))["status"] == "completed"

        async def room() -> bool:
            return (await http.post({"action": "sum"})).status == 202

        await eventually(room, what="room for one more")

    assert {answer.status for answer in answers} == {202, 503}
    assert BOUND <= len(accepted) < FLOOD
    assert {task_id for (task_id,) in rows(database, "SELECT id FROM tasks")} >= accepted
    assert rows(database, "SELECT count(*) FROM tasks") == [(len(accepted) + 1,)]
