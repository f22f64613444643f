"""Keys, and what clients write, over a whole run of the real process: who comes in, and what the log then holds."""

from pathlib import Path

import pytest

from taskqueue import events
from taskqueue_api.access.scopes import Scope
from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import http_client, raw_connection
from tests.support.keys import KeyBook, bearer
from tests.support.processes import Service

NASTY = 'a\r\n{"level": "error"}\n\x1b[2J\x07\x85\u2028\u2029"'


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    """A file of keys."""
    return KeyBook(tmp_path / "keys")


def _start(start_service: StartService, folder: Path, **settings: object) -> Service:
    ours = {"DATABASE_URL": f"sqlite:///{folder}/data/tasks.db", "PORT": 0, "LOG_FORMAT": "json"}
    return start_service("taskqueue_embedded", **(ours | settings))


async def _logging(
    start_service: StartService, folder: Path, log_format: str, **settings: object
) -> tuple[Service, str]:
    """A service whose log is of this form, and its URL."""
    service = _start(start_service, folder, **settings)
    url = await service.url()
    if log_format == "console":  # its lines tell no port to a program: the first process's port, once it is free
        service.terminate()
        assert await service.ended() == 0
        service = _start(start_service, folder, **settings, LOG_FORMAT=log_format, PORT=url.rpartition(":")[2])
    return service, url


async def test_a_task_runs_behind_doors_and_a_revoked_key_is_refused(
    start_service: StartService, tmp_path: Path, book: KeyBook
) -> None:
    """Submitted with one key, read with another, which is revoked while the process runs; supervisors need none."""
    submits, reads = book.issue(Scope.SUBMIT), book.issue(Scope.READ)
    service = _start(start_service, tmp_path, API_KEYS_FILE=book.path)
    async with http_client(await service.url()) as http:
        answer = await http.post({"action": "sum", "data": {"numbers": [1, 2]}}, **bearer(submits))
        path = f"/tasks/{answer.json['id']}?wait=30"
        task = await http.get(path, **bearer(reads))
        strangers = [(await http.get(each)).status for each in (path, "/readyz", "/livez")]
        book.revoke(reads)

        async def refused() -> bool:
            return (await http.get(path, **bearer(reads))).status == 401

        await eventually(refused, within=10, what="the end of the key")
        again = await http.post({"action": "sum"}, **bearer(submits))

    assert (task.status, task.json["result"]) == (200, {"output": 3})
    assert strangers == [401, 200, 200]
    assert again.status == 202
    assert service.reports(events.DOORS_OPEN) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_key_is_ever_in_the_log(
    start_service: StartService, tmp_path: Path, book: KeyBook, log_format: str
) -> None:
    """Wherever a client puts it, in good and bad requests, at the lowest level; nor is its digest.

    But for what the log is there to name: a request's X-Request-ID and a task's action.
    """
    token = book.issue()
    secret = token.rpartition("_")[2]
    digest = book.path.read_text().split()[1]
    service, url = await _logging(start_service, tmp_path, log_format, API_KEYS_FILE=book.path, LOG_LEVEL="DEBUG")
    async with http_client(url) as http:
        await eventually(lambda: _ready(http.readiness), what="the start")
        for wrong in (
            bearer(token),
            bearer(token[:-1]),
            {"Authorization": token},
            {"X": token},
        ):
            await http.post({"action": "a"}, **wrong)
            await http.post(b"{" + token.encode(), **wrong)
        await http.get(f"/tasks?key={token}", **bearer(token))
        await http.get(f"/{token}")
        await http.post({"action": "a", "data": {token: token}, "tags": [token]}, **bearer(token))
        book.spoil(token)
        async with raw_connection(int(url.rpartition(":")[2])) as connection:
            await connection.send(token.encode() + b"\r\n\r\n")
            await connection.rest()
        await eventually(lambda: events.KEYS_UNUSABLE.sentence in service.said, what="the report of the broken file")
    service.terminate()
    assert await service.ended() == 0

    assert "served a request" in service.said
    assert digest not in service.said
    assert [line for line in service.said.splitlines() if secret in line] == []


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_what_clients_write_stays_within_a_line(
    start_service: StartService, tmp_path: Path, log_format: str
) -> None:
    """Line ends, escape sequences and line separators in actions, ids, headers and paths make no line of their own."""
    service, url = await _logging(start_service, tmp_path, log_format, UNKNOWN_ACTION="fail")
    async with http_client(url) as http:
        await eventually(lambda: _ready(http.readiness), what="the start")
        task = await http.finished(await http.submitted(NASTY, {NASTY: NASTY}))
        await http.post({"action": "sum", "tags": [NASTY]}, X_Request_ID="\u2028\x85a")
        await http.get("/tasks/%0d%0a%1b%e2%80%a8?status=%0d%0a%1b")
    service.terminate()
    assert await service.ended() == 0

    assert task["status"] == "failed"
    assert events.TASK_FAILED.sentence in service.said
    assert not set("\x1b\x07\x85\u2028\u2029\r") & set(service.said)
    if log_format == "json":
        assert service.outbursts == []
    assert not any(line.startswith(('{"level": "error"}', '"')) for line in service.said.splitlines())


async def test_a_file_that_others_may_read_refuses_the_start(
    start_service: StartService, tmp_path: Path, book: KeyBook
) -> None:
    """Exit code 2, and one sentence that says what to do."""
    book.issue()
    book.path.chmod(0o644)

    service = _start(start_service, tmp_path, API_KEYS_FILE=book.path)

    assert await service.ended() == 2
    assert service.refusal.startswith("TASKQUEUE_API_KEYS_FILE: ")
    assert service.refusal.endswith("others may read or write it: take that away (chmod o-rwx)")


async def test_an_empty_setting_is_none(start_service: StartService, tmp_path: Path) -> None:
    """As compose passes on a variable that is not set; and open doors are told of, where others reach them."""
    service = _start(start_service, tmp_path, API_KEYS_FILE="", HOST="0.0.0.0")  # noqa: S104
    await service.reported(events.STARTED, service="api")

    [warning] = service.reports(events.DOORS_OPEN)
    assert warning["level"] == "warning"


async def _ready(readiness: object) -> bool:
    assert callable(readiness)
    status: int = await readiness()
    return status == 200
