"""A task's later life in one process: called off while it runs, explained, retried, deleted."""

from pathlib import Path

from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.http import Http, http_client
from tests.support.user_actions import MODULE, UserActions

CANCEL_SECONDS = 5.0


async def test_a_running_task_is_called_off_retried_and_deleted(start_service: StartService, tmp_path: Path) -> None:
    """By nothing but requests; at each step it says why it is where it is."""
    user_actions = UserActions(tmp_path)
    service = start_service(
        "taskqueue_embedded", DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db", PORT=0, LOG_FORMAT="json", ACTIONS=MODULE
    )
    async with http_client(await service.url()) as http:
        task_id = await http.submitted("wait")
        await eventually(lambda: user_actions.began(task_id), what="the handler")
        assert await _why(http, task_id) == "running"

        assert (await http.ask("POST", f"/tasks/{task_id}/cancel")).status == 202
        assert (await http.finished(task_id, within=CANCEL_SECONDS))["status"] == "cancelled"
        assert (await http.ask("POST", f"/tasks/{task_id}/cancel")).status == 200
        assert await _why(http, task_id) == "cancelled"

        user_actions.go_on()
        assert (await http.ask("POST", f"/tasks/{task_id}/retry")).status == 202
        task = await http.finished(task_id)
        assert (task["status"], task["attempts"], task["result"]) == ("completed", 1, {"attempt": 2})
        assert [attempt["outcome"] for attempt in task["history"]] == ["cancelled", "completed"]
        assert await _why(http, task_id) == "completed"

        assert (await http.ask("DELETE", f"/tasks/{task_id}")).status == 204
        assert (await http.get(f"/tasks/{task_id}")).status == 404


async def _why(http: Http, task_id: str) -> str:
    code: str = (await http.get(f"/tasks/{task_id}/why")).json["code"]
    return code
