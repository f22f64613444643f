"""`GET /tasks/{id}`: what was asked for, what became of each attempt, and how long it all took."""

from tests.api.conftest import Api
from tests.support.database import change

HISTORY = (
    '{"attempt":1,"started_at":11500,"ended_at":11750,"worker":"w1","outcome":"failed","error":"no"},'
    '{"attempt":2,"started_at":20000,"ended_at":20010,"worker":"w2","outcome":"timed_out","error":"slow"}'
)
NOON = 3978849600
ENDED = [
    {"attempt": 1, "started_at": 11500, "ended_at": 11750, "worker": "w1", "outcome": "failed", "error": "no"},
    {"attempt": 2, "started_at": 20000, "ended_at": 20010, "worker": "w2", "outcome": "timed_out", "error": "slow"},
]


async def test_what_was_asked_for_reads_back(api: Api) -> None:
    """Instants in whole Unix seconds, the timeout in seconds, the priority as the level that takes effect."""
    body = {
        "action": "a",
        "timeout": 1.5,
        "max_attempts": 3,
        "priority": 9,
        "tags": ["x", "y"],
        "run_at": "2096-01-31T12:00:00.5Z",
        "expires_at": "2096-01-31T14:00:00+01:00",
    }

    task = await api.http.task((await api.http.post(body)).json["id"])

    asked = ("action", "priority", "tags", "run_at", "expires_at", "timeout", "max_attempts", "schedule_id")
    assert [task[name] for name in asked] == ["a", 5, ["x", "y"], NOON, NOON + 3600, 1.5, 3, None]


async def test_each_ended_attempt_is_told(api: Api) -> None:
    """With its worker, outcome and error, and times in milliseconds; waiting counts from when it could begin."""
    task_id = await api.http.submitted("a")
    change(api.database, "UPDATE tasks SET accepted_at = 10000000, history = ?, attempt = 2", HISTORY)

    task = await api.http.task(task_id)

    assert task["history"] == ENDED
    assert task["timings"] == {"waited": 1500, "ran": 260}
    change(api.database, "UPDATE tasks SET run_at = 11000")
    assert (await api.http.task(task_id))["timings"]["waited"] == 500


async def test_a_running_attempt_is_the_last_of_them(api: Api) -> None:
    """It has no outcome yet; its progress stands beside."""
    task_id = await api.http.submitted("a")
    change(
        api.database,
        "UPDATE tasks SET status = 'running', attempt = 3, started_at = 30000, worker = 'w', history = ?, progress = ?",
        HISTORY,
        '{"fraction":0.4,"message":"so far"}',
    )

    task = await api.http.task(task_id)

    running = {"attempt": 3, "started_at": 30000, "ended_at": None, "worker": "w", "outcome": None, "error": None}
    assert task["history"] == [*ENDED, running]
    assert task["progress"] == {"fraction": 0.4, "message": "so far"}
    assert task["timings"]["ran"] == 260


async def test_a_first_attempt_that_runs_has_waited(api: Api) -> None:
    """How long it waited is known as soon as it begins; nothing has run to its end."""
    task_id = await api.http.submitted("a")
    change(
        api.database,
        "UPDATE tasks SET accepted_at = 10000000, status = 'running', attempt = 1, started_at = 10200, worker = 'w'",
    )

    assert (await api.http.task(task_id))["timings"] == {"waited": 200, "ran": None}
