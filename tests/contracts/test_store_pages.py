"""Pages of tasks, however small and whatever is asked for: together they are all that was asked for, once, in order."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskqueue.schema import TaskStatus
from taskqueue.store import pages
from taskqueue.store.pages import Wanted
from taskqueue.store.tasks import TaskStore
from tests.support.database import change, connect

ACTIONS = ("resize", "sum")
TAGS = ("x", "y")
INSTANTS = st.integers(min_value=0, max_value=6)
"""So few that many tasks have the same, as two processes may give it."""

ROWS = st.lists(
    st.tuples(INSTANTS, st.sampled_from(TaskStatus), st.sampled_from(ACTIONS), st.sets(st.sampled_from(TAGS))),
    max_size=14,
)
WANTED = st.builds(
    Wanted,
    statuses=st.frozensets(st.sampled_from(TaskStatus), max_size=3),
    action=st.sampled_from((None, *ACTIONS)),
    tag=st.sampled_from((None, *TAGS)),
    since=st.none() | INSTANTS,
    until=st.none() | INSTANTS,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, wanted=WANTED, limit=st.integers(min_value=1, max_value=4))
async def test_pages_together_have_each_task_once(
    store: TaskStore, database: Path, monkeypatch: pytest.MonkeyPatch, *, rows: list[Any], wanted: Wanted, limit: int
) -> None:
    """Also where a page ends at the number of candidates that it may look at, or at its size."""
    monkeypatch.setattr(pages, "CANDIDATES", 5)
    monkeypatch.setattr(pages, "PAGE_CHARACTERS", 5)
    _fill(database, rows)

    whole, stretches = await _paged(store, wanted, limit), await _stretched(store, wanted, limit)

    expected = sorted((f"{n:02}" for n, row in enumerate(rows) if _is_wanted(row, wanted)), reverse=True)
    expected.sort(key=lambda task_id: rows[int(task_id)][0], reverse=True)
    assert whole == stretches == expected


def _fill(database: Path, rows: list[Any]) -> None:
    for table in ("tasks", "task_tags"):
        change(database, f"DELETE FROM {table}")  # noqa: S608 - a name of ours
    connection = connect(database)
    for number, (at, status, action, tags) in enumerate(rows):
        task_id = f"{number:02}"
        connection.execute(
            "INSERT INTO tasks (id, payload, status, created_at, accepted_at, action) VALUES (?, '{}', ?, 1, ?, ?)",
            (task_id, status, at, action),
        )
        connection.executemany("INSERT INTO task_tags VALUES (?, ?, ?)", [(tag, at, task_id) for tag in tags])
    connection.close()


def _is_wanted(row: Any, wanted: Wanted) -> bool:
    at, status, action, tags = row
    return (
        (not wanted.statuses or status in wanted.statuses)
        and wanted.action in (None, action)
        and (wanted.tag is None or wanted.tag in tags)
        and (wanted.since is None or at >= wanted.since)
        and (wanted.until is None or at < wanted.until)
    )


async def _paged(store: TaskStore, wanted: Wanted, limit: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await store.page(wanted, limit, after)
        found += [task.id for task in page.tasks]
        if (after := page.next) is None:
            return found


async def _stretched(store: TaskStore, wanted: Wanted, limit: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        stretch = await store.stretch(wanted, limit, after)
        found += stretch.ids
        if (after := stretch.next) is None:
            return found
