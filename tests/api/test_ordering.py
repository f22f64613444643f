"""`POST /tasks/{id}/cancel`, `POST /tasks/{id}/retry`, `DELETE /tasks/{id}`: what people order by hand."""

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from tests.api.conftest import Api
from tests.support.database import change, rows, write_locked
from tests.support.eventually import eventually

STATUS = "UPDATE tasks SET status = ?, due_at = NULL, ended_at = 1000, processed_at = 1 WHERE id = ?"


async def test_a_pending_task_is_cancelled_at_once(api: Api) -> None:
    """200, and so again: it is done."""
    task_id = await api.http.submitted("a")

    for _ in range(2):
        answer = await api.http.ask("POST", f"/tasks/{task_id}/cancel")
        assert (answer.status, answer.json) == (200, {"id": task_id, "status": "cancelled"})

    assert (await api.http.task(task_id))["status"] == "cancelled"


async def test_cancelling_a_running_task_is_a_request(api: Api) -> None:
    """202, and so again, until its worker has stopped."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = 'running', attempt = 1, worker = 'w' WHERE id = ?", task_id)

    for _ in range(2):
        answer = await api.http.ask("POST", f"/tasks/{task_id}/cancel")
        assert (answer.status, answer.json) == (202, {"id": task_id, "status": "running"})

    assert await api.collaborators.store.called_off("w") == [(task_id, 1)]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_finished_task_cannot_be_cancelled(api: Api, status: str) -> None:
    """409 with a sentence."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, status, task_id)

    answer = await api.http.ask("POST", f"/tasks/{task_id}/cancel")

    assert answer.is_error(409, "task already finished")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_retried_task_reads_as_a_new_one(api: Api, status: str) -> None:
    """202 with its place, like a new task; its end is forgotten, its attempts begin anew."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, status, task_id)
    change(api.database, "UPDATE tasks SET attempt = 5, error = 'no' WHERE id = ?", task_id)

    answer = await api.http.ask("POST", f"/tasks/{task_id}/retry")

    assert (answer.status, answer.json) == (202, {"id": task_id, "status": "queued"})
    assert answer.headers["Location"] == f"/tasks/{task_id}"
    task = await api.http.task(task_id)
    assert [task[name] for name in ("status", "attempts", "error", "processed_at")] == ["pending", 0, None, None]


async def test_a_retried_task_is_handed_out(api: Api) -> None:
    """It goes to the broker at once, without waiting for a sweep."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, "failed", task_id)
    await api.http.ask("POST", f"/tasks/{task_id}/retry")

    async with api.dispatching():
        query = "SELECT status FROM tasks WHERE id = ?"
        await eventually(lambda: rows(api.database, query, task_id) == [("queued",)], within=5)


@pytest.mark.parametrize("status", ["pending", "queued", "running", "completed"])
async def test_only_a_failed_or_cancelled_task_can_be_retried(api: Api, status: str) -> None:
    """409 with a sentence: a result, once recorded, stays."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = ? WHERE id = ?", status, task_id)

    answer = await api.http.ask("POST", f"/tasks/{task_id}/retry")

    assert answer.is_error(409, "only a failed or cancelled task can be retried")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_finished_task_can_be_deleted(api: Api, status: str) -> None:
    """204 without a body; afterwards nobody knows it."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, status, task_id)

    answer = await api.http.ask("DELETE", f"/tasks/{task_id}")

    assert (answer.status, answer.body) == (204, b"")
    assert (await api.http.get(f"/tasks/{task_id}")).is_error(404, "task not found")
    assert (await api.http.ask("DELETE", f"/tasks/{task_id}")).is_error(404, "task not found")


@pytest.mark.parametrize("status", ["pending", "queued", "running"])
async def test_an_unfinished_task_cannot_be_deleted(api: Api, status: str) -> None:
    """409: cancel it first."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET status = ? WHERE id = ?", status, task_id)

    answer = await api.http.ask("DELETE", f"/tasks/{task_id}")

    assert answer.is_error(409, "only a finished task can be deleted")


@pytest.mark.parametrize("task_id", ["no-such-task", "%00", "%ED%A0%80", "'%20OR%201=1"])
@pytest.mark.parametrize(("method", "order"), [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")])
async def test_an_order_for_an_unknown_task_is_not_found(api: Api, method: str, order: str, task_id: str) -> None:
    """404 with a sentence, whether it could be an id or not."""
    bystander = await api.http.submitted("a")

    answer = await api.http.ask(method, f"/tasks/{task_id}{order}")

    assert answer.is_error(404, "task not found")
    assert (await api.http.task(bystander))["status"] == "pending"


@pytest.mark.parametrize(("method", "order"), [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")])
async def test_an_order_that_the_database_cannot_take_is_told(api: Api, method: str, order: str) -> None:
    """500 that does not speak of queueing; and nothing has happened."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, "cancelled", task_id)
    with api.collaborators.store._writer._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")

    with write_locked(api.database):
        answer = await api.http.ask(method, f"/tasks/{task_id}{order}")

    assert answer.is_error(500, "database unavailable")
    assert (await api.http.task(task_id))["status"] == "cancelled"


@pytest.mark.parametrize(("connected", "lease"), [(True, 8_000), (False, 0)])
async def test_a_retried_task_is_due_at_once_while_the_broker_is_away(
    api: Api, memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, *, connected: bool, lease: int
) -> None:
    """So that a worker takes it straight from the store; else a dispatcher has it to itself for a while."""
    task_id = await api.http.submitted("a")
    change(api.database, STATUS, "failed", task_id)
    monkeypatch.setattr(memory_broker, "connected", connected)
    before = system_clock()

    await api.http.ask("POST", f"/tasks/{task_id}/retry")

    [(due_at,)] = rows(api.database, "SELECT due_at FROM tasks WHERE id = ?", task_id)
    assert before + lease <= due_at <= system_clock() + lease
