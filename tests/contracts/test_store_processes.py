"""The store between real processes: whatever they do to one file at the same time, the books balance."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from taskqueue.schedule import ScheduleRequest
from taskqueue.schema import FINAL, LEGAL_TRANSITIONS, TaskStatus
from taskqueue.store.schedules import Kept
from taskqueue.store.tasks import TaskStore
from tests.support.database import rows
from tests.support.eventually import eventually
from tests.support.frozen_clock import START

MINUTES = 25
WITHIN = 90
"""Seconds for processes to start, and to end."""


async def test_of_each_tick_real_processes_make_one_task(store: TaskStore, database: Path) -> None:
    """Three of them, and a fourth that is killed in the middle."""
    request = ScheduleRequest.of({"action": "a", "interval": 60})
    for name in ("s0", "s1", "s2"):
        await store.keep_schedule(Kept(name, request, START, START + 60_000))

    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_process("tick", database, MINUTES)) for _ in range(4)]
        _let_begin(processes)
        await eventually(lambda: rows(database, "SELECT id FROM tasks LIMIT 1"), within=WITHIN)
        processes[0].kill()
        assert [await _ended(process) for process in processes[1:]] == [0, 0, 0]

    made = rows(database, "SELECT schedule_id, count(*) FROM tasks GROUP BY 1 ORDER BY 1")
    assert made == [(name, MINUTES) for name in ("s0", "s1", "s2")]
    assert rows(database, "SELECT DISTINCT last_at, next_at FROM schedules") == [
        (START + MINUTES * 60_000, START + (MINUTES + 1) * 60_000)
    ]
    assert rows(database, "SELECT count(*), count(DISTINCT task_id) FROM changes") == [(3 * MINUTES, 3 * MINUTES)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_books_of_processes_in_disorder_balance(database: Path, seed: int) -> None:
    """Three add, claim, settle, sweep, cancel, retry, delete and retain the same tasks at once."""
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(_process("disorder", database, 10 * seed + number)) for number in range(3)
        ]
        _let_begin(processes)
        assert [await _ended(process) for process in processes] == [0, 0, 0]

    last = _last_of_possible_stories(database)
    for task_id, status, attempt, forgiven, due_at, queued_at, ended_at, asked_at in rows(
        database,
        "SELECT id, status, attempt, forgiven, due_at, queued_at, ended_at, cancel_requested_at FROM tasks",
    ):
        shown = TaskStatus.PENDING if status == TaskStatus.QUEUED else status  # what the broker holds is not told
        assert last[task_id] == (shown, attempt)
        assert 0 <= forgiven <= attempt
        assert (due_at is None) == (status == TaskStatus.QUEUED or status in FINAL)
        assert (queued_at is None) == (status != TaskStatus.QUEUED)
        assert (ended_at is None) == (status not in FINAL)
        assert asked_at is None or status == TaskStatus.RUNNING
    tallies = dict(rows(database, "SELECT name, tally FROM tallies"))
    assert tallies["accepted"] - tallies["removed"] == rows(database, "SELECT count(*) FROM tasks")[0][0]
    assert tallies["removed"] > 0
    for without in (
        "SELECT task_id FROM task_tags EXCEPT SELECT id FROM tasks",
        "SELECT id FROM tasks WHERE tags IS NOT NULL EXCEPT SELECT task_id FROM task_tags",
        "SELECT idempotency_key FROM tasks WHERE idempotency_key IS NOT NULL GROUP BY 1 HAVING count(*) > 1",
    ):
        assert rows(database, without) == []


def _last_of_possible_stories(database: Path) -> dict[str, tuple[str, int]]:
    """By its changes every task has a story that is possible, deleted ones before they begin anew; its last change."""
    stories: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for task_id, status, attempt in rows(database, "SELECT task_id, status, attempt FROM changes ORDER BY seq"):
        story = stories[task_id]
        if story and (status, attempt) in ((TaskStatus.PENDING, 0), (TaskStatus.RUNNING, 1)) and story[-1][0] in FINAL:
            story.clear()  # deleted since, or a cancelled one that is tried again, which comes to the same
        if story:
            before, attempts = story[-1]
            assert status in LEGAL_TRANSITIONS[TaskStatus(before)], (task_id, story, status)
            assert attempt == attempts + (status == TaskStatus.RUNNING), (task_id, story, attempt)
        story.append((status, attempt))
    return {task_id: story[-1] for task_id, story in stories.items()}


@asynccontextmanager
async def _process(program: str, database: Path, number: int) -> AsyncIterator[Process]:
    """A process that is ready to begin."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.hammering", program, str(database), str(number)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=sys.stderr,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), WITHIN) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _let_begin(processes: list[Process]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")


async def _ended(process: Process) -> int | None:
    _, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    return process.returncode
