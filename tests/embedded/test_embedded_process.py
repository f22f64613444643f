"""`python -m taskqueue_embedded` as its user sees it: everything in one process, nothing but a folder to begin with."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from taskqueue import events
from taskqueue.store.losses import LOSSES_IN_COMPANY
from tests.conftest import StartService
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.processes import Service
from tests.support.sse import listening
from tests.support.user_actions import MODULE, UserActions

GRACE_SECONDS = 20
TASKS = 60


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Path:
    """Where the database will be: neither it nor its folder is there yet."""
    return tmp_path / "new" / "data" / "tasks.db"


@pytest.fixture
def user_actions(tmp_path: Path) -> UserActions:
    """A module of actions where the process is started."""
    return UserActions(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def _start(start_service: StartService, database: Path, **settings: object) -> Service:
    ours = {"DATABASE_URL": f"sqlite:///{database}", "PORT": 0, "LOG_FORMAT": "json"}
    return start_service("taskqueue_embedded", **(ours | settings))


async def test_a_fresh_folder_is_all_it_needs(start_service: StartService, database: Path) -> None:
    """It makes folder and schema, is ready, and performs what is posted."""
    service = _start(start_service, database)
    async with http_client(await service.url()) as http:
        readiness = await http.get("/readyz")
        task = await http.finished(await http.submitted("uppercase", {"text": "a"}))

    assert (readiness.status, readiness.json["status"]) == (200, "pass")
    assert (task["status"], task["result"], task["attempts"]) == ("completed", {"output": "A"}, 1)
    assert _count(database, "completed") == 1


async def test_a_variable_that_nobody_reads_is_told_of(start_service: StartService, database: Path) -> None:
    """With the one that may be meant; the service starts all the same."""
    service = _start(start_service, database, TASK_TIMEOUT="3")

    warning = await service.reported(events.SETTING_UNKNOWN)
    await service.url()

    assert (warning["variable"], warning["nearest"]) == ("TASKQUEUE_TASK_TIMEOUT", "TASKQUEUE_TASK_TIMEOUT_SECONDS")


async def test_its_worker_is_listed_and_data_are_checked_against_its_actions(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """As with services of their own: bad data are refused with a sentence, and a stop leaves no entry behind."""
    service = _start(start_service, database, ACTIONS=MODULE)
    async with http_client(await service.url()) as http:

        async def names() -> list[str]:
            return [each["name"] for each in (await http.get("/actions")).json["actions"]]

        await eventually(names, what="the actions")
        task_id = await http.submitted("wait")
        await eventually(lambda: user_actions.began(task_id), what="the handler")
        [worker] = (await http.get("/workers")).json["workers"]
        refused = await http.post({"action": "sum", "data": {"numbers": "12"}})
        offered = await names()
    user_actions.go_on()
    service.terminate()

    assert offered == worker["actions"] == ["compute", "die", "hang", "slow", "stay", "sum", "uppercase", "wait"]
    assert worker["running"] == [task_id]
    assert refused.is_error(400, 'data.numbers: the value is not of type "array"')
    assert await service.ended(within=GRACE_SECONDS) == 0
    assert rows(database, "SELECT * FROM workers") == []


async def test_a_schedule_makes_tasks_that_are_completed(start_service: StartService, database: Path) -> None:
    """Again and again, and after a restart still."""
    settings = {"SIMULATED_WORK_SECONDS": 0}
    service = _start(start_service, database, **settings)
    async with http_client(await service.url()) as http:
        created = await http.ask("POST", "/schedules", b'{"action": "sum", "data": {"numbers": [1, 2]}, "interval": 1}')
        assert created.status == 201
        await eventually(lambda: _count(database, "completed") >= 2, what="two ticks")
    service.kill()
    before = _count(database, "completed")

    service = _start(start_service, database, **settings)
    await eventually(lambda: _count(database, "completed") >= before + 2, within=60, what="two more ticks")

    assert rows(database, "SELECT DISTINCT result FROM tasks WHERE status = 'completed'") == [('{"output":3}',)]


async def test_where_nothing_is_set_the_database_is_below_the_working_folder(
    start_service: StartService, tmp_path: Path
) -> None:
    """`data/tasks.db`, and the log is for people to read."""
    service = start_service("taskqueue_embedded", PORT=0)
    await eventually(lambda: "service=api" in service.said, within=60, what="the start")

    service.signal(signal.SIGINT)

    assert await service.ended(within=GRACE_SECONDS) == 0
    assert (tmp_path / "data" / "tasks.db").is_file()
    assert not service.said.startswith("{")


async def test_a_result_comes_back_to_who_waits_and_to_who_listens(start_service: StartService, database: Path) -> None:
    """One request is enough; and each step can be followed."""
    service = _start(start_service, database, SIMULATED_WORK_SECONDS=0)
    url = await service.url()
    async with http_client(url) as http, listening(f"{url}/events?action=sum") as stream:
        answer = await http.post({"action": "sum", "data": {"numbers": [1, 2]}}, Prefer="wait=20")
        told = [await stream.next() for _ in range(3)]

    assert (answer.status, answer.json["result"]) == (200, {"output": 3})
    assert [each and each.status for each in told] == ["pending", "running", "completed"]
    assert {each and each.data["id"] for each in told} == {answer.json["id"]}


async def test_who_waits_and_who_listens_does_not_hold_up_the_stop(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """Waits are answered and streams end at once, while what runs is still given its time."""
    service = _start(start_service, database, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=GRACE_SECONDS)
    url = await service.url()
    async with http_client(url) as http, listening(f"{url}/events") as stream:
        waiting = asyncio.create_task(http.post({"action": "wait"}, Prefer="wait=30"))
        told = await stream.next()
        assert told is not None
        await eventually(lambda: user_actions.began(told.data["id"]), what="the handler")

        service.terminate()

        await stream.rest(within=GRACE_SECONDS / 2)
        answer = await asyncio.wait_for(waiting, GRACE_SECONDS / 2)
    assert (answer.status, answer.json["id"]) == (202, told.data["id"])
    user_actions.go_on()
    assert await service.ended(within=GRACE_SECONDS) == 0
    assert service.outbursts == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_drains_when_it_is_asked_to_stop(
    start_service: StartService, database: Path, user_actions: UserActions, number: signal.Signals
) -> None:
    """Ctrl-C: no request is taken from then on, what is at work is finished and recorded, and the exit code is 0."""
    service = _start(start_service, database, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=GRACE_SECONDS)
    async with http_client(await service.url()) as http:
        task_id = await http.submitted("wait")
        await eventually(lambda: user_actions.began(task_id), what="the handler")

        service.signal(number)
        await service.reported(events.STOPPING)
        await eventually(lambda: _refuses(http), what="the API takes no more")
    user_actions.go_on()

    assert await service.ended(within=GRACE_SECONDS) == 0
    assert rows(database, "SELECT status, result, attempt FROM tasks") == [("completed", '{"attempt":1}', 1)]
    assert service.outbursts == []


async def test_a_handler_that_computes_ends_with_a_service_that_is_killed(
    start_service: StartService, database: Path, user_actions: UserActions, tmp_path: Path
) -> None:
    """Nobody waits for it any more, and another worker begins the same anew."""
    service = _start(start_service, database, ACTIONS=MODULE)
    async with http_client(await service.url()) as http:
        task_id = await http.submitted("compute")
        await eventually(lambda: user_actions.began(task_id), what="the handler")
    number = int((tmp_path / f"began.{task_id}.1").read_text())

    service.kill()

    await eventually(lambda: not _lives(number), what="the end of the handler's process")


async def test_a_handler_that_computes_has_a_process_which_ends_with_the_service(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """It is used again while the service runs; a stop waits for what it computes."""
    service = _start(start_service, database, ACTIONS=MODULE)
    async with http_client(await service.url()) as http:
        first = await http.submitted("compute")
        await eventually(lambda: user_actions.began(first), within=60, what="the handler")
        user_actions.go_on()
        process = (await http.finished(first))["result"]["process"]
        second = await http.finished(await http.submitted("compute"))
    service.terminate()

    assert await service.ended(within=GRACE_SECONDS) == 0
    assert second["result"]["process"] == process
    assert not _lives(process)
    assert service.outbursts == []


async def test_a_service_whose_handlers_hang_ends_to_be_started_again(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """A hundred threads that nobody can end: exit code 1, and a sentence that says why."""
    service = _start(start_service, database, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=1)
    async with http_client(await service.url()) as http:
        for _ in range(100):
            await http.submitted("hang")

        assert await service.ended() == 1
    [crash] = service.reports(events.CRASHED)
    assert "WorkerExhausted" in str(crash["exception"])
    assert _count(database, "failed") == 100


async def test_what_does_not_finish_in_time_is_taken_up_at_the_next_start(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """A stop cuts a task short and hands it back, which costs it no attempt."""
    settings = {"ACTIONS": MODULE, "MAX_ATTEMPTS": 1}
    first = _start(start_service, database, SHUTDOWN_GRACE_SECONDS=2, **settings)
    async with http_client(await first.url()) as http:
        task_id = await http.submitted("wait")
        await eventually(lambda: user_actions.began(task_id), what="the handler")
    first.terminate()
    assert await first.ended(within=GRACE_SECONDS) == 0
    assert rows(database, "SELECT forgiven FROM tasks") == [(1,)]
    user_actions.go_on()

    second = _start(start_service, database, **settings)
    async with http_client(await second.url()) as http:
        task = await http.finished(task_id)

    assert (task["status"], task["result"]) == ("completed", {"attempt": 2})


async def test_a_handler_that_will_not_end_does_not_hold_up_the_end(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """It swallows every cancellation; the process exits 0 all the same, before a supervisor would kill it."""
    service = _start(start_service, database, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=1)
    async with http_client(await service.url()) as http:
        task_id = await http.submitted("stay")
        await eventually(lambda: user_actions.began(task_id), what="the handler")

    service.terminate()

    assert await service.ended(within=GRACE_SECONDS) == 0


async def test_a_signal_that_is_repeated_ends_it_at_once(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """Who presses Ctrl-C again does not want to wait for anybody."""
    service = _start(start_service, database, ACTIONS=MODULE, SHUTDOWN_GRACE_SECONDS=3600)
    async with http_client(await service.url()) as http:
        task_id = await http.submitted("wait")
        await eventually(lambda: user_actions.began(task_id), what="the handler")
    service.signal(signal.SIGINT)
    await service.reported(events.STOPPING)

    await eventually(lambda: service.insist(signal.SIGINT), within=GRACE_SECONDS, what="the end of the process")

    assert await service.ended() == 130


async def test_after_a_kill_every_task_is_completed(start_service: StartService, database: Path) -> None:
    """By kill -9, with tasks waiting, handed out and at work: the next start finishes each of them, rightly."""
    first = _start(start_service, database, SIMULATED_WORK_SECONDS=0.5)
    async with http_client(await first.url()) as http:
        posted = await asyncio.gather(*(http.submitted("sum", {"numbers": [n, 1]}) for n in range(TASKS)))
        done = await http.finished(posted[0])
        await eventually(lambda: _count(database, "running"), what="a running task")
    first.kill()
    cut_short = _count(database, "queued") + _count(database, "running")
    assert cut_short > 0

    second = _start(start_service, database, SIMULATED_WORK_SECONDS=0)
    async with http_client(await second.url()) as http:
        tasks = [await http.finished(task_id) for task_id in posted]

    assert [task["result"] for task in tasks] == [{"output": number + 1} for number in range(TASKS)]
    assert {task["status"] for task in tasks} == {"completed"}
    assert all(task["attempts"] <= 2 for task in tasks)
    assert tasks[0] == done
    assert [entry["tasks"] for entry in second.reports(events.RESUMED)] == [cut_short]


async def test_a_task_that_was_cut_short_in_its_last_attempt_is_failed(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """Twice a neighbour may have been the cause; then a kill counts, so that a task does not kill for ever."""
    settings = {"ACTIONS": MODULE, "MAX_ATTEMPTS": 1}
    first = _start(start_service, database, **settings)
    async with http_client(await first.url()) as http:
        task_id = await http.submitted("wait")
    service = first
    for attempt in range(1, LOSSES_IN_COMPANY + 2):
        await eventually(partial(user_actions.began, task_id, attempt=attempt), what="the handler")
        service.kill()
        service = _start(start_service, database, **settings)

    async with http_client(await service.url()) as http:
        task = await http.finished(task_id)

    assert (task["status"], task["attempts"]) == ("failed", 1)
    assert not user_actions.began(task_id, attempt=LOSSES_IN_COMPANY + 2)


async def test_a_second_one_on_the_same_file_is_refused(start_service: StartService, database: Path) -> None:
    """Exit code 74 and a sentence; the first works on, and its file can be used again when it has ended."""
    first = _start(start_service, database)
    async with http_client(await first.url()) as http:
        second = _start(start_service, database)

        assert await second.ended() == 74
        assert "embedded mode must be alone" in second.refusal
        assert (await http.finished(await http.submitted("sum")))["status"] == "completed"
    first.kill()
    third = _start(start_service, database)
    await third.url()


@pytest.mark.parametrize("module", ["taskqueue_api", "taskqueue_worker"])
async def test_a_service_on_the_file_of_embedded_mode_is_refused(
    start_service: StartService, database: Path, module: str
) -> None:
    """Exit code 74: the tasks of embedded mode are in its memory, where no other process finds them."""
    embedded = _start(start_service, database)
    await embedded.url()

    service = start_service(module, DATABASE_URL=f"sqlite:///{database}", BROKER_URL="amqp://127.0.0.1:1/", PORT=0)

    assert await service.ended() == 74
    assert "embedded mode runs on" in service.refusal


async def test_embedded_mode_on_the_file_of_a_service_is_refused(start_service: StartService, database: Path) -> None:
    """Exit code 74, for as long as the service runs; other services may share the file with it."""
    maker = _start(start_service, database)
    await maker.url()
    maker.kill()
    settings = {"DATABASE_URL": f"sqlite:///{database}", "BROKER_URL": "amqp://127.0.0.1:1/", "PORT": 0}
    services = [start_service("taskqueue_api", **settings) for _ in range(2)]
    for service in services:
        await service.url()

    refused = _start(start_service, database)

    assert await refused.ended() == 74
    assert "embedded mode must be alone" in refused.refusal
    for service in services:
        service.kill()
    await _start(start_service, database).url()


async def test_all_bad_settings_are_reported_at_once(start_service: StartService) -> None:
    """Exit code 2, and the name of every faulty variable of the API and of the worker."""
    bad = {"PORT": "-1", "CHANNELS": "0", "MAX_ATTEMPTS": "x", "DATABASE_URL": "postgresql://h/d", "LOG_LEVEL": "LOUD"}

    service = start_service("taskqueue_embedded", **bad)

    assert await service.ended() == 2
    assert [name for name in bad if f"TASKQUEUE_{name}: " not in service.said] == []
    assert "Traceback" not in service.said


async def test_actions_that_cannot_be_imported_are_refused(start_service: StartService, database: Path) -> None:
    """Exit code 2, and the module by name."""
    service = _start(start_service, database, ACTIONS="no.such.module")

    assert await service.ended() == 2
    assert "the module 'no.such.module' of TASKQUEUE_ACTIONS" in service.refusal


async def test_a_port_that_is_taken_is_refused(start_service: StartService, database: Path, taken_port: int) -> None:
    """Exit code 69, and a sentence that names the address."""
    service = _start(start_service, database, PORT=taken_port)

    assert await service.ended(within=GRACE_SECONDS) == 69
    assert f"127.0.0.1 port {taken_port}" in service.refusal


@pytest.mark.parametrize("place", ["file/tasks.db", "file/folder/tasks.db", "/proc/nowhere/tasks.db"])
async def test_a_folder_that_cannot_be_made_is_refused(start_service: StartService, tmp_path: Path, place: str) -> None:
    """Exit code 73 and a sentence, where a file is in the way or nothing can be made."""
    (tmp_path / "file").touch()

    service = _start(start_service, tmp_path / place)

    assert await service.ended() == 73
    assert "folder" in service.refusal


async def test_a_schema_that_is_not_known_is_refused(start_service: StartService, database: Path) -> None:
    """Exit code 65: a database of a newer version is not touched."""
    first = _start(start_service, database)
    await first.url()
    first.kill()
    change(database, "UPDATE alembic_version SET version_num = '9999'")

    second = _start(start_service, database)

    assert await second.ended() == 65
    assert second.refusal
    assert rows(database, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_a_file_that_is_no_database_is_refused(start_service: StartService, tmp_path: Path) -> None:
    """Exit code 65, and the file is left as it is."""
    (tmp_path / "letters").write_bytes(b"important letters" * 100)

    service = _start(start_service, tmp_path / "letters")

    assert await service.ended() == 65
    assert service.refusal
    assert (tmp_path / "letters").read_bytes() == b"important letters" * 100


async def test_a_database_of_the_three_services_can_be_taken_over(start_service: StartService, database: Path) -> None:
    """The schema is the same: what compose mode left unfinished, embedded mode finishes."""
    first = _start(start_service, database)
    async with http_client(await first.url()) as http:
        task_id = await http.finished(await http.submitted("sum", {"numbers": [1]}))
    first.kill()
    change(database, "UPDATE tasks SET status = 'queued', result = NULL, attempt = 0, due_at = NULL, queued_at = 1")

    second = _start(start_service, database)
    async with http_client(await second.url()) as http:
        assert (await http.finished(task_id["id"]))["result"] == {"output": 1}


async def _refuses(http: Http) -> bool:
    return await http.readiness() != 200


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _count(database: Path, status: str) -> int:
    [(count,)] = rows(database, "SELECT count(*) FROM tasks WHERE status = ?", status)
    return int(count)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_task_that_kills_the_process_fails_and_takes_no_neighbour_with_it(
    start_service: StartService, database: Path, user_actions: UserActions
) -> None:
    """It ends after its attempts, although API and worker die with it, and are started again each time."""
    settings = {"ACTIONS": MODULE, "MAX_ATTEMPTS": 2}
    service, starts = _start(start_service, database, **settings), 1
    async with http_client(await service.url()) as http:
        neighbours = [await http.submitted("slow") for _ in range(9)]
        poison = await http.submitted("die")

    def ended_or_done() -> bool:
        return not service.alive or _count(database, "completed") + _count(database, "failed") == 10

    while True:
        await eventually(ended_or_done, within=60, what="the end of the process, or of all tasks")
        if service.alive:
            break
        service, starts = _start(start_service, database, **settings), starts + 1

    async with http_client(await service.url()) as http:
        task = await http.finished(poison)
        assert {(await http.finished(task_id))["status"] for task_id in neighbours} == {"completed"}
    assert (task["status"], task["attempts"]) == ("failed", 2)
    assert "worker was lost" in task["error"]
    assert starts == LOSSES_IN_COMPANY + 2 + 1
