"""`GET /tasks` with a query: which tasks, how many, and page by page."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from taskqueue.schema import TaskStatus
from taskqueue.store import pages
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.http import Answer

NEXT = re.compile(r'<(/tasks\?\S+)>; rel="next"')


async def _posted(api: Api, *, status: str = "pending", action: str = "a", tags: tuple[str, ...] = ()) -> str:
    """The id of a task in this status."""
    answer = await api.http.post({"action": action, "tags": tags})
    task_id: str = answer.json["id"]
    change(api.database, "UPDATE tasks SET status = ? WHERE id = ?", status, task_id)
    return task_id


async def _listed(api: Api, query: str) -> list[str]:
    answer = await api.http.get(f"/tasks?{query}")
    assert answer.status == 200, answer
    assert "Link" not in answer.headers
    return _ids(answer)


def _ids(answer: Answer) -> list[str]:
    ids = [task["id"] for task in answer.json["tasks"]]
    assert answer.json["count"] == len(ids)
    return ids


async def _pages(api: Api, query: str) -> AsyncIterator[list[str]]:
    """The ids of each page, along the links."""
    path: str | None = f"/tasks?{query}"
    while path:
        answer = await api.http.get(path)
        assert answer.status == 200, answer
        yield _ids(answer)
        link = NEXT.fullmatch(answer.headers.get("Link", ""))
        path = link[1] if link else None


async def _walked(api: Api, query: str) -> list[str]:
    return [task_id async for page in _pages(api, query) for task_id in page]


async def test_each_filter_narrows_and_all_together_too(api: Api) -> None:
    """Whatever is asked for at once, what comes back is all that, newest first."""
    tasks = [
        (await _posted(api, status=status, action=action, tags=tags), status, action, tags)
        for status in TaskStatus
        for action in ("a", "b")
        for tags in ((), ("x",), ("x", "y"))
    ][::-1]

    for statuses in ((), ("failed",), ("failed", "pending"), tuple(TaskStatus)):
        for action in ("", "a", "c"):
            for tag in ("", "x", "y", "z"):
                wanted = [
                    task_id
                    for task_id, status, its_action, tags in tasks
                    if (not statuses or status in statuses)
                    and (not action or its_action == action)
                    and (not tag or tag in tags)
                ]
                query = f"status={','.join(statuses)}&action={action}&tag={tag}"
                assert await _listed(api, query) == wanted, query
                assert await _walked(api, f"{query}&limit=4") == wanted, query


async def test_a_status_may_be_repeated_or_listed(api: Api) -> None:
    """Both ways in which clients write several values."""
    failed, queued = await _posted(api, status="failed"), await _posted(api, status="queued")
    await _posted(api, status="running")

    assert await _listed(api, "status=failed&status=queued") == [queued, failed]
    assert await _listed(api, "status=failed,queued,failed") == [queued, failed]


async def test_since_is_within_and_until_is_not(api: Api) -> None:
    """By when a task was accepted: in Unix seconds, or as RFC 3339 has it."""
    ids = [await _posted(api) for _ in range(3)]
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for seconds, task_id in enumerate(ids):
        stamp = round((start + timedelta(seconds=seconds)).timestamp() * 1_000_000)
        change(api.database, "UPDATE tasks SET accepted_at = ? WHERE id = ?", stamp, task_id)
    second = round(start.timestamp()) + 1

    for named in (str(second), f"{second}.0", "2026-01-31T12:00:01Z", "2026-01-31T13:00:01%2B01:00"):
        assert await _listed(api, f"since={named}") == [ids[2], ids[1]]
        assert await _listed(api, f"until={named}") == [ids[0]]
    assert await _listed(api, f"since={second - 1}&until={second + 1}&status=pending,failed") == [ids[1], ids[0]]


async def test_pages_follow_one_another_though_tasks_arrive_and_change(api: Api) -> None:
    """Each task of the beginning is met once, however the list grows at its head meanwhile; a link keeps the query."""
    posted = [await _posted(api, action="ü&>") for _ in range(25)]
    met = []
    async for page in _pages(api, "action=%C3%BC%26%3E&limit=10"):
        met.append(page)
        await _posted(api, action="ü&>")

    assert met == [posted[:14:-1], posted[14:4:-1], posted[4::-1]]


async def test_a_page_that_ends_the_list_has_no_link(api: Api) -> None:
    """Also where it is exactly full."""
    for _ in range(3):
        await _posted(api)

    assert "Link" in (await api.http.get("/tasks?limit=2")).headers
    assert "Link" not in (await api.http.get("/tasks?limit=3")).headers


async def test_tasks_of_one_microsecond_are_parted_by_their_ids(api: Api) -> None:
    """Two processes may accept at the same instant, and a page may end between them."""
    posted = [await _posted(api, status="failed", tags=("x",)) for _ in range(7)]
    change(api.database, "UPDATE tasks SET accepted_at = 5")
    change(api.database, "UPDATE task_tags SET accepted_at = 5")

    for query in ("", "tag=x", "action=a", "status=failed,queued", "tag=x&status=failed"):
        assert await _walked(api, f"limit=3&{query}") == sorted(posted, reverse=True)


async def test_large_tasks_make_short_pages_that_go_on(api: Api) -> None:
    """A page ends at about 2 MB, and the next one begins where it ended."""
    for number in range(5):
        await api.http.submitted("a", {"n": number, "text": "x" * 1_000_000})

    met = [len(page) async for page in _pages(api, "")]

    assert met == [2, 2, 1]


@pytest.mark.parametrize("query", ["action=a&status=failed", "tag=x&status=failed", "tag=x&status=failed&action=a"])
async def test_a_page_looks_at_a_bounded_number_of_candidates(
    api: Api, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Where matches are rare a page is short or empty, and its link goes on until they are all found."""
    monkeypatch.setattr(pages, "CANDIDATES", 10)
    oldest = await _posted(api, status="failed", tags=("x",))
    for _ in range(24):
        await _posted(api, tags=("x",))
    newest = await _posted(api, status="failed", tags=("x",))

    met = [page async for page in _pages(api, query)]

    assert met == [[newest], [], [oldest]]


async def test_a_tag_that_has_outlived_its_task_is_passed_over(api: Api) -> None:
    """A page is what is there."""
    first, second = await _posted(api, tags=("x",)), await _posted(api, tags=("x",))
    change(api.database, "DELETE FROM tasks WHERE id = ?", second)

    assert await _walked(api, "tag=x&limit=1") == [first]


BAD_CURSORS = ["x", "%00", "%ED%A0%80", "AAAA", "bnVsbA==", "===="]
FORGED = [[1], [1, 2], ["1", "a"], [True, "a"], [-1, "a"], [2**63, "a"], [1.5, "a"], {"a": 1, "b": 2}, [1, "a", 2]]


@pytest.mark.parametrize(
    "cursor", [*BAD_CURSORS, *(urlsafe_b64encode(json.dumps(forged).encode()).decode() for forged in FORGED)]
)
async def test_a_cursor_that_no_answer_gave_is_refused(api: Api, cursor: str) -> None:
    """400 with a sentence."""
    assert (await api.http.get(f"/tasks?cursor={cursor}")).is_error(
        400, "cursor must be one that an earlier answer gave"
    )


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "a", "%D9%A1", "1000"])
async def test_a_limit_beyond_its_bounds_is_refused(api: Api, limit: str) -> None:
    """400 with a sentence."""
    assert (await api.http.get(f"/tasks?limit={limit}")).is_error(400, "limit must be a whole number from 1 to 100")


async def test_an_offset_whose_plus_is_sent_as_it_is_is_understood(api: Api) -> None:
    """A query reads it as a space, which whoever types it into a shell does not know."""
    task_id = await api.http.submitted("a")

    for offset in ("+00:00", "+0000", "%2B00:00"):
        assert await _listed(api, f"since=2026-01-31T12:00:00{offset}") == [task_id]


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("instant", ["yesterday", "2026-01-31T12:00:00", "-1", "1e9", "nan", "%00", "9" * 30])
async def test_what_is_no_instant_is_refused(api: Api, name: str, instant: str) -> None:
    """400 with a sentence that names the parameter."""
    sentence = f"{name} must be Unix seconds, or a time with its offset, such as 2026-01-31T12:00:00Z"

    assert (await api.http.get(f"/tasks?{name}={instant}")).is_error(400, sentence)


@pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "%ff", "'%20OR%201=1", "x" * 3000])
async def test_any_text_may_be_looked_for(api: Api, text: str) -> None:
    """An action or a tag that nobody has is an empty list."""
    await _posted(api, tags=("x",))

    for name in ("action", "tag"):
        assert await _listed(api, f"{name}={text}") == []
    assert len(rows(api.database, "SELECT id FROM tasks")) == 1
