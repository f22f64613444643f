"""What a client reads when the database fails: 500 with one sentence, and nothing of what lies behind it."""

import asyncio
import re

import pytest

from taskqueue import events
from taskqueue.store import sqlite
from tests.api.conftest import Api
from tests.support.database import change, rows, write_locked
from tests.support.http import Answer

INNARDS = re.compile(r"sql|select|insert|table|traceback|file |\.py|/tmp|\.db", re.IGNORECASE)


@pytest.fixture
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database gives up on locks at once."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)


async def test_a_task_that_cannot_be_recorded_is_refused(api: Api) -> None:
    """Where the table is gone, POST says that the task is not queued."""
    change(api.database, "DROP TABLE tasks")

    answer = await api.http.post({"action": "a"})

    assert answer.is_error(500, "failed to queue task")


async def test_a_list_that_cannot_be_read_says_so(api: Api) -> None:
    """Where the table is gone, the query failed, and the database is there."""
    change(api.database, "DROP TABLE tasks")

    assert (await api.http.get("/tasks")).is_error(500, "query failed")


async def test_a_task_that_cannot_be_read_says_so(api: Api) -> None:
    """One task is read as the list is."""
    change(api.database, "DROP TABLE tasks")

    assert (await api.http.get("/tasks/1")).is_error(500, "query failed")


async def test_a_column_that_is_gone_is_a_failed_query(api: Api) -> None:
    """A schema that somebody has changed is told from a database that is away."""
    await api.http.submitted("a")
    change(api.database, "ALTER TABLE tasks RENAME COLUMN error TO fault")

    assert (await api.http.get("/tasks")).is_error(500, "query failed")


async def test_a_file_that_is_no_database_is_a_failed_query(api: Api) -> None:
    """A file that something else has written over."""
    await api.collaborators.store._readers.dispose()
    api.database.write_bytes(b"garbage" * 1_000)

    assert (await api.http.get("/tasks")).is_error(500, "query failed")


async def test_a_database_that_cannot_be_opened_is_unavailable(api: Api) -> None:
    """Where the folder is gone, both ways of reading say that the database is away."""
    await _lose_folder(api)

    assert (await api.http.get("/tasks")).is_error(500, "database unavailable")
    assert (await api.http.get("/tasks/1")).is_error(500, "database unavailable")


@pytest.mark.usefixtures("_impatience")
async def test_a_task_is_refused_while_the_database_cannot_be_written(api: Api) -> None:
    """Another process holds the lock for longer than the API waits: 500, and the task is not recorded later either."""
    with write_locked(api.database):
        answer = await api.http.post({"action": "a"})

    assert answer.is_error(500, "failed to queue task")
    assert (await api.http.post({"action": "b"})).status == 202
    assert [row[0] for row in rows(api.database, "SELECT payload ->> 'action' FROM tasks")] == ["b"]


async def test_a_task_is_accepted_as_soon_as_the_lock_is_free(api: Api) -> None:
    """A short wait is no failure."""
    with write_locked(api.database):
        posting = asyncio.create_task(api.http.post({"action": "a"}))
        done, _ = await asyncio.wait({posting}, timeout=0.2)
        assert not done

    assert (await posting).status == 202


async def test_the_api_recovers_with_its_database(api: Api) -> None:
    """What failed is tried anew with each request."""
    change(api.database, "ALTER TABLE tasks RENAME TO elsewhere")
    assert (await api.http.post({"action": "a"})).status == 500

    change(api.database, "ALTER TABLE elsewhere RENAME TO tasks")

    assert (await api.http.post({"action": "a"})).status == 202


async def test_one_bad_task_does_not_fail_the_others_of_its_commit(api: Api) -> None:
    """Requests share a transaction, and not their failures."""
    change(
        api.database,
        "CREATE TRIGGER refuse BEFORE INSERT ON tasks WHEN NEW.payload ->> 'action' = 'bad' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )

    actions = ["good", "bad", "good", "good"]
    answers = await asyncio.gather(*(api.http.post({"action": action}) for action in actions))

    assert [answer.status for answer in answers] == [202, 500, 202, 202]
    assert len(rows(api.database, "SELECT id FROM tasks")) == 3


async def test_nothing_of_the_database_leaks(api: Api) -> None:
    """No SQL, no path and no traceback in any 500, whatever was asked; the log has the reason."""
    change(api.database, "DROP TABLE tasks")
    answers = [
        await api.http.post({"action": "a"}),
        await api.http.get("/tasks"),
        await api.http.get("/tasks/1"),
    ]
    await _lose_folder(api)
    answers += [await api.http.get("/tasks"), await api.http.get("/readyz")]

    for answer in answers:
        assert not INNARDS.search(_text(answer)), answer
    assert all(entry["reason"] for entry in api.reports(events.REQUEST_FAILED))


async def test_a_fault_of_our_own_is_answered_without_its_traceback(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else breaks: 500 in the same form, and the log has the traceback."""
    monkeypatch.setattr(api.collaborators.store, "page", _break)

    answer = await api.http.get("/tasks")

    assert answer.is_error(500, "internal error")
    [entry] = api.reports(events.REQUEST_FAILED)
    assert isinstance(entry["exc_info"], ZeroDivisionError)


async def _lose_folder(api: Api) -> None:
    await api.collaborators.store._readers.dispose()
    _rename_folder(api)


def _rename_folder(api: Api) -> None:
    folder = api.database.parent
    folder.rename(folder.with_name(f"{folder.name}.gone"))


def _text(answer: Answer) -> str:
    return "\n".join([*(f"{name}: {value}" for name, value in answer.headers.items()), answer.body.decode()])


async def _break(*_: object) -> None:
    raise ZeroDivisionError("/srv/secret.py: SELECT")
