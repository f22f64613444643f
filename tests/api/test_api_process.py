"""`python -m taskqueue_api` as a supervisor sees it: how it starts, how it refuses to, and how it ends."""

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskqueue import events
from taskqueue_api import streaming
from tests.conftest import StartService
from tests.support.database import change, rows, write_locked
from tests.support.eventually import eventually
from tests.support.http import Http, http_client, raw_connection
from tests.support.ports import free_port
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ
from tests.support.sse import listening

MODULE = "taskqueue_api"
GRACE_SECONDS = 10
SECRET = "hunter2"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def _nowhere() -> str:
    return f"amqp://127.0.0.1:{free_port()}/"


def _start(start_service: StartService, database: Path, **settings: object) -> Service:
    ours = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": _nowhere(), "PORT": 0}
    return start_service(MODULE, **(ours | settings))


async def test_all_bad_settings_are_reported_at_once(start_service: StartService) -> None:
    """Exit code 2, one line, the name of every faulty variable in it, and no value: it may hold a password."""
    bad = {
        "PORT": "eighty",
        "BROKER_URL": f"http://user:{SECRET}@host",
        "DATABASE_URL": f"postgresql://user:{SECRET}@host",
        "MAX_ATTEMPTS": "0",
        "SHUTDOWN_GRACE_SECONDS": "-1",
        "LOG_LEVEL": "LOUD",
        "LOG_FORMAT": "xml",
    }

    service = start_service(MODULE, **bad)

    assert await service.ended() == 2
    [refusal] = service.reports(events.START_REFUSED)
    assert [name for name in bad if f"TASKQUEUE_{name}: " not in refusal["reason"]] == []
    assert len(service.said.splitlines()) == 1
    assert SECRET not in service.said


async def test_a_memory_broker_is_refused(start_service: StartService) -> None:
    """Two processes cannot share a memory, and the sentence says where it works."""
    service = start_service(MODULE, BROKER_URL="memory://")

    assert await service.ended() == 2
    assert "embedded mode" in service.said


async def test_a_database_that_is_not_there_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """Exit code 75, what to do about it, and no file is made."""
    service = _start(start_service, tmp_path / "none.db")

    assert await service.ended() == 75
    assert "run the migrate service first" in service.refusal
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "fault",
    ["UPDATE alembic_version SET version_num = '9999'", "DROP TABLE alembic_version", "DELETE FROM alembic_version"],
)
async def test_a_schema_that_is_not_known_is_refused(start_service: StartService, database: Path, fault: str) -> None:
    """Exit code 65, and what to do about it."""
    change(database, fault)

    service = _start(start_service, database)

    assert await service.ended() == 65
    assert "run the migrate service" in service.refusal


async def test_a_file_that_is_no_database_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """Exit code 65, and the file is left as it is."""
    (tmp_path / "tasks.db").write_bytes(b"important letters" * 100)

    service = _start(start_service, tmp_path / "tasks.db")

    assert await service.ended() == 65
    assert service.refusal
    assert (tmp_path / "tasks.db").read_bytes() == b"important letters" * 100


async def test_a_folder_that_cannot_hold_the_database_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """Exit code 73 where the folder is not there, and where it is no folder."""
    (tmp_path / "file").touch()

    for folder in ("none", "file"):
        service = _start(start_service, tmp_path / folder / "tasks.db")

        assert await service.ended() == 73
        assert str(tmp_path / folder) in service.refusal


async def test_a_port_that_is_taken_is_refused(start_service: StartService, database: Path, taken_port: int) -> None:
    """Exit code 69, and a sentence that names the address."""
    service = _start(start_service, database, PORT=taken_port)

    assert await service.ended() == 69
    assert f"127.0.0.1 port {taken_port}" in service.refusal


async def test_an_address_of_another_machine_is_refused(start_service: StartService, database: Path) -> None:
    """The same exit code, whatever makes the address unusable."""
    service = _start(start_service, database, HOST="203.0.113.1")

    assert await service.ended() == 69
    assert "203.0.113.1" in service.refusal


async def test_without_a_broker_tasks_are_accepted_and_wait(start_service: StartService, database: Path) -> None:
    """The API starts, is degraded and ready, answers 202, and ends in order."""
    service = _start(start_service, database)
    async with http_client(await service.url()) as http:
        readiness = await http.get("/readyz")
        task_id = await http.submitted("sum", {"numbers": [1]})

    assert (readiness.status, readiness.json["status"]) == (200, "degraded")
    assert rows(database, "SELECT id, status FROM tasks") == [(task_id, "pending")]
    service.terminate()
    assert await service.ended() == 0


async def test_the_log_is_json_line_by_line(start_service: StartService, database: Path) -> None:
    """Whatever a client does, each line is an object with an event, a level and an instant, and each request is one."""
    service = _start(start_service, database)
    url = await service.url()
    async with http_client(url) as http:
        await http.submitted(SECRET)
        await http.post(b"{")
        await http.get("/tasks/1")
    async with raw_connection(int(url.rpartition(":")[2])) as connection:
        await connection.send(b"no HTTP\r\n\r\n")
        await connection.rest()
    service.terminate()
    await service.ended()

    entries = [json.loads(line) for line in service.said.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(entry) for entry in entries)
    assert [entry["status"] for entry in service.reports(events.REQUEST_SERVED)] == [202, 400, 404, 400]
    assert SECRET not in service.said


async def test_a_request_in_flight_at_the_stop_is_finished(start_service: StartService, database: Path) -> None:
    """SIGTERM: not ready from then on, what was begun gets its answer, and the process exits 0 within its grace."""
    service = _start(start_service, database, SHUTDOWN_GRACE_SECONDS=GRACE_SECONDS)
    url = await service.url()
    async with raw_connection(int(url.rpartition(":")[2])) as posting, http_client(url) as other:
        await posting.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await posting.answer()
        with write_locked(database):
            await posting.send(b'POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"action":"x"}')
            await other.get("/livez")  # its answer comes after the POST was read
            service.terminate()
            await service.reported(events.STOPPING)
            await eventually(lambda: _refuses(other), what="the API is not ready")

        answer = await posting.answer()
    assert answer.status == 202
    assert await service.ended(within=GRACE_SECONDS) == 0
    assert rows(database, "SELECT id FROM tasks") == [(answer.json["id"],)]
    assert service.reports(events.STOPPED)
    assert service.outbursts == []


async def test_waits_and_streams_end_at_once_at_the_stop(start_service: StartService, database: Path) -> None:
    """SIGTERM: who waits has its answer, who listens has its end, and the process its own well within its grace."""
    service = _start(start_service, database, SHUTDOWN_GRACE_SECONDS=60)
    url = await service.url()
    async with http_client(url) as http, listening(f"{url}/events") as stream:
        waiting = asyncio.create_task(http.post({"action": "a"}, Prefer="wait=30"))
        await stream.next()

        service.terminate()

        assert await stream.rest(within=GRACE_SECONDS) == []
        assert (await asyncio.wait_for(waiting, GRACE_SECONDS)).status == 202
        assert await service.ended(within=GRACE_SECONDS) == 0
    assert service.outbursts == []
    assert [entry["route"] for entry in service.reports(events.REQUEST_SERVED) if entry["duration"] > 30_000] == []


async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(
    start_service: StartService, database: Path
) -> None:
    """Its stream is full, and it is cut off."""
    service = _start(start_service, database, SHUTDOWN_GRACE_SECONDS=60)
    url = await service.url()
    change(
        database,
        "INSERT INTO changes (task_id, status, attempt, at, detail) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
        "SELECT 'a', 'running', 1, 1, json_object('message', hex(randomblob(250000))) FROM n",
    )
    async with raw_connection(int(url.rpartition(":")[2])) as connection:
        await connection.send(b"GET /events?last_event_id=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(1)

        service.terminate()

        assert await service.ended(within=streaming.READ_SECONDS / 2) == 0


async def test_a_silent_client_does_not_hold_up_the_stop(start_service: StartService, database: Path) -> None:
    """An idle connection and half a request are closed, and the process exits 0 within its grace."""
    service = _start(start_service, database, SHUTDOWN_GRACE_SECONDS=2)
    port = int((await service.url()).rpartition(":")[2])
    async with raw_connection(port) as idle, raw_connection(port) as half:
        await idle.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.answer()
        await half.send(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n")
        await half.answer()
        service.terminate()

        assert await service.ended(within=GRACE_SECONDS) == 0
    assert service.outbursts == []


async def test_ctrl_c_stops_it_as_sigterm_does(start_service: StartService, database: Path) -> None:
    """A developer's way to stop is an orderly one."""
    service = _start(start_service, database)
    await service.url()

    service.signal(signal.SIGINT)

    assert await service.ended() == 0


async def test_the_health_check_of_the_container_asks_for_readiness(
    start_service: StartService, database: Path
) -> None:
    """Exit code 0 while the API is ready, 1 while it is not, and 1 where nobody listens."""
    service = _start(start_service, database)
    port = (await service.url()).rpartition(":")[2]

    async def verdict() -> int:
        return await start_service("taskqueue_api.healthcheck", PORT=port).ended()

    assert await verdict() == 0
    change(database, "DROP TABLE alembic_version")
    assert await verdict() == 1
    service.kill()
    assert await verdict() == 1


async def test_the_health_check_takes_no_other_service_for_the_api(start_service: StartService) -> None:
    """Whatever answers on the port, the answer is an exit code and no traceback."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        asked = start_service("taskqueue_api.healthcheck", PORT=server.sockets[0].getsockname()[1])

        assert await asked.ended() == 1
    assert asked.said == ""


@pytest.mark.docker
async def test_an_accepted_task_reaches_rabbitmq(
    start_service: StartService, database: Path, clean_rabbitmq: RabbitMQ
) -> None:
    """With a broker the API is ready without reserve, and a task is `queued` once RabbitMQ has confirmed it."""
    service = _start(start_service, database, BROKER_URL=clean_rabbitmq.url)
    async with http_client(await service.url()) as http:
        await service.reported(events.BROKER_CONNECTED)

        async def passes() -> bool:
            return bool((await http.get("/readyz")).json["status"] == "pass")

        await eventually(passes, what="the API is ready")
        task_id = await http.submitted("sum")

        async def queued() -> bool:
            return bool((await http.task(task_id))["status"] == "queued")

        await eventually(queued, what="the task is queued")
    await eventually(lambda: _messages(clean_rabbitmq) == 1, what="RabbitMQ counts the message")


async def _refuses(http: Http) -> bool:
    return await http.readiness() != 200


def _messages(rabbitmq: RabbitMQ) -> int:
    return sum(row["messages"] for row in rabbitmq.table("list_queues", "name", "messages") if row["name"] == "tasks")
