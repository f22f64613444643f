"""What the walk through the failpoints needs: clients that insist, a handler that counts, and systems to kill."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientError

from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.ports import free_port
from tests.support.processes import Service

MODULE: Final = "counting_actions"
KILLED: Final = -9

_SOURCE: Final = """
import asyncio
import os

from taskqueue.actions import Context, action


@action("count")
async def count(data: dict, context: Context) -> dict:
    with open("runs", "a") as runs:
        runs.write(f"{context.task_id} {context.attempt}\\n")
        runs.flush()
        os.fsync(runs.fileno())
    await asyncio.sleep(data.get("seconds", 0))
    return {"output": 2 * data["number"]}
"""


@dataclass
class Bench:
    """A folder with a database and actions, and the services that a test starts there, on one port."""

    folder: Path
    start_service: StartService
    port: int = field(default_factory=free_port)
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The actions are where the services are started."""
        (self.folder / f"{MODULE}.py").write_text(_SOURCE)

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.folder / "tasks.db"

    @property
    def url(self) -> str:
        """Where the API listens, whenever it does."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, module: str, failpoints: str = "", **settings: object) -> Service:
        """One task at a time, so that nobody else's run is cut short; leases as short as they may be."""
        ours = {
            "DATABASE_URL": f"sqlite:///{self.database}",
            "PORT": self.port,
            "LOG_FORMAT": "json",
            "ACTIONS": MODULE,
            "CHANNELS": 1,
            "PREFETCH_COUNT": 1,
            "LEASE_SECONDS": 5,
            "FAILPOINTS": failpoints,
        }
        return self.start_service(module, **(ours | dict(self.settings) | settings))

    @property
    def runs(self) -> Sequence[str]:
        """The id of each handler's run, in their order."""
        file = self.folder / "runs"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    async def posted(self, count: int, **options: object) -> dict[str, int]:
        """Posts so many tasks, each until it is accepted: the number of each, by its id."""
        numbers: dict[str, int] = {}
        async with http_client(self.url) as http:
            for number in range(count):
                body = {"action": "count", "data": {"number": number} | _data(options)} | _rest(options)
                numbers[await _insisted(http, body, f"key-{number}")] = number
        return numbers

    async def all_right(self, numbers: Mapping[str, int]) -> None:
        """Waits until each of these tasks is final; all are right, none is there twice, and everything balances."""
        await self.listening()
        async with http_client(self.url) as http:
            for task_id, number in numbers.items():
                task = await http.finished(task_id, within=90)
                assert (task["status"], task["result"]) == ("completed", {"output": 2 * number}), task
            report = await self.audited(http)
            assert report["tasks"]["accepted"] == report["tasks"]["completed"] == len(numbers), report

    async def audited(self, http: Http) -> Any:
        """An audit of everything, which balances."""
        answer = await http.get("/audit?integrity=1")
        assert answer.status == 200, answer
        assert answer.json["balanced"], [check for check in answer.json["checks"] if check["verdict"] == "fail"]
        return answer.json

    async def listening(self) -> None:
        """Waits until the API answers."""
        async with http_client(self.url) as http:
            await eventually(http.readiness, within=60, what="the API")


def _data(options: Mapping[str, object]) -> dict[str, object]:
    return {name: options[name] for name in ("seconds",) if name in options}


def _rest(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name != "seconds"}


async def _insisted(http: Http, body: object, key: str) -> str:
    """What a client does that wants its task: asks again, under its key, until somebody answers."""
    async with asyncio.timeout(120):
        while True:
            try:
                answer = await http.post(body, Idempotency_Key=key)
            except (ClientError, OSError):
                await asyncio.sleep(0.1)
                continue
            assert answer.status == 202, answer
            task_id: str = answer.json["id"]
            return task_id


@pytest.fixture(name="bench")
def _bench(tmp_path: Path, start_service: StartService) -> Bench:
    return Bench(tmp_path, start_service)
