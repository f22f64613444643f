"""`POST /tasks`: what is accepted, and what a 202 promises."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.schema import TaskMessage
from taskqueue_api.collaborators import BODIES_AT_WORK
from taskqueue_api.requests import MAX_BODY_BYTES
from tests.api.conftest import Api
from tests.support.database import rows, write_locked
from tests.support.eventually import eventually
from tests.support.http import raw_connection

MEBIBYTE = 1024 * 1024


async def test_an_accepted_task_is_answered_by_its_id_and_where_to_find_it(api: Api) -> None:
    """202, a body of exactly `id` and `status`, a Location, and an id that is a random UUID."""
    answer = await api.http.post({"action": "sum", "data": {"numbers": [1, 2]}})

    assert answer.status == 202
    task_id = answer.json["id"]
    assert answer.body == json.dumps({"id": task_id, "status": "queued"}, separators=(",", ":")).encode()
    assert answer.headers["Location"] == f"/tasks/{task_id}"
    assert (str(UUID(task_id)), UUID(task_id).version) == (task_id, 4)


async def test_the_location_of_an_accepted_task_leads_to_it(api: Api) -> None:
    """A client may follow the header without knowing how paths are made."""
    accepted = await api.http.post({"action": "sum"})

    found = await api.http.get(accepted.headers["Location"])

    assert (found.status, found.json["id"]) == (200, accepted.json["id"])


async def test_the_row_is_on_disk_before_the_answer(api: Api) -> None:
    """Another process finds the task, `pending` and due, as soon as the client has the 202."""
    task_id = await api.http.submitted("sum", {"numbers": [1]})

    [(payload, status, result, processed_at, due_at, created_at)] = rows(
        api.database,
        "SELECT payload, status, result, processed_at, due_at, created_at FROM tasks WHERE id = ?",
        task_id,
    )
    assert (status, result, processed_at) == ("pending", None, None)
    assert json.loads(payload) == {
        "id": task_id,
        "action": "sum",
        "data": {"numbers": [1]},
        "created_at": created_at,
    }
    assert created_at * 1000 < due_at < (created_at + 60) * 1000


async def test_an_accepted_task_is_queued_once_the_broker_has_it(api: Api, memory_broker: MemoryBroker) -> None:
    """The dispatcher publishes the task as it was accepted, and then the task says so."""
    async with api.dispatching():
        task_id = await api.http.submitted("shout", {"text": "a"})

        async def queued() -> bool:
            return bool((await api.http.task(task_id))["status"] == "queued")

        await eventually(queued, what="the task is queued")
    message = TaskMessage.decode(await _only_message(memory_broker))
    assert (message.id, message.action, message.data, message.attempt) == (task_id, "shout", {"text": "a"}, 0)


EVERY_KIND: dict[str, Any] = {"ü\x00": ["\U0001f600", None, True, -1.5e300, {}]}


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ({"action": "a"}, {}),
        ({"action": "a", "data": {}}, {}),
        ({"action": "a", "data": EVERY_KIND}, EVERY_KIND),
        ({"action": "a", "data": {"n": 2**70}}, {"n": 2**70}),
        ({"action": "a", "data": {"id": "mine"}, "id": "mine", "status": "completed", "attempt": 9}, {"id": "mine"}),
    ],
    ids=["no data", "empty data", "every kind of value", "a number beyond 64 bits", "members that nobody knows"],
)
async def test_data_is_kept_as_it_was_sent(api: Api, body: dict[str, Any], data: dict[str, Any]) -> None:
    """What a client sends as `data` is what it reads back; `{}` where it sent none; other members are left aside."""
    answer = await api.http.post(body)

    task = await api.http.task(answer.json["id"])
    assert (task["payload"]["action"], task["payload"]["data"]) == ("a", data)
    assert (task["id"], task["status"], task["attempts"]) == (answer.json["id"], "pending", 0)


@pytest.mark.parametrize("action", ["a", "ü" * 200, "\U0001f600" * 200, " ", "a\nb", "\x00", "uppercase; DROP TABLE"])
async def test_any_action_of_up_to_200_characters_is_accepted(api: Api, action: str) -> None:
    """A name is a name: its characters are counted, not its bytes, and none of them means anything."""
    task_id = await api.http.submitted(action)

    assert (await api.http.task(task_id))["payload"]["action"] == action


async def test_of_two_members_of_one_name_the_last_one_counts(api: Api) -> None:
    """A body with a name twice is taken as most parsers take it, and not refused."""
    answer = await api.http.post(b'{"action": "first", "action": "last"}')

    assert (await api.http.task(answer.json["id"]))["payload"]["action"] == "last"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
async def test_the_bytes_of_the_body_decide_and_not_its_content_type(api: Api, content_type: str) -> None:
    """A client that names a wrong type, such as curl -d without a header, is served all the same."""
    answer = await api.http.post({"action": "a"}, Content_Type=content_type)

    assert answer.status == 202


async def test_a_body_without_a_content_type_is_accepted(api: Api) -> None:
    """The header may be missing altogether."""
    async with raw_connection(api.port) as connection:
        await connection.send(b'POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"action":"x"}')

        assert (await connection.answer()).status == 202


async def test_a_body_of_exactly_one_mebibyte_is_accepted(api: Api) -> None:
    """The limit itself is within the limit."""
    answer = await api.http.post(_body_of(MEBIBYTE))

    assert answer.status == 202


async def test_a_body_of_one_byte_more_is_refused(api: Api) -> None:
    """413 with a sentence, and nothing is recorded."""
    answer = await api.http.post(_body_of(MEBIBYTE + 1))

    assert answer.is_error(413, "the body must be at most 1 MiB")
    assert rows(api.database, "SELECT * FROM tasks") == []


async def test_a_chunked_body_is_counted_as_it_comes(api: Api) -> None:
    """A client that does not say how much it will send is refused when it has sent too much."""
    async with raw_connection(api.port) as connection:
        await connection.send(b"POST /tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            await connection.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await connection.send(b"0\r\n\r\n")

        assert (await connection.answer()).is_error(413, "the body must be at most 1 MiB")


async def test_a_chunked_body_is_accepted(api: Api) -> None:
    """Streaming clients need not know the length beforehand."""
    async with raw_connection(api.port) as connection:
        await connection.send(b"POST /tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send(b'9\r\n{"action"\r\n5\r\n:"x"}\r\n0\r\n\r\n')

        assert (await connection.answer()).status == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "gzip, identity", "unheard-of"])
async def test_a_compressed_body_is_refused_unread(api: Api, encoding: str) -> None:
    """415 in JSON: a few bytes cannot grow into gigabytes here."""
    answer = await api.http.post(b"\x1f\x8b\x08\x00", Content_Encoding=encoding)

    assert answer.is_error(415, "compressed bodies are not supported")


async def test_many_at_once_are_all_accepted_under_ids_of_their_own(api: Api) -> None:
    """Requests that share a commit are still one task each."""
    ids = await asyncio.gather(*(api.http.submitted("sum", {"n": number}) for number in range(50)))

    assert len(set(ids)) == 50
    assert {row[0] for row in rows(api.database, "SELECT id FROM tasks")} == set(ids)


def test_every_body_fits_into_the_budget_of_bodies_at_work() -> None:
    """A body that could never have its turn would wait for ever."""
    assert MAX_BODY_BYTES <= BODIES_AT_WORK


async def test_many_large_bodies_at_once_are_all_accepted(api: Api) -> None:
    """They take turns in memory, and whoever asks for something else is answered meanwhile."""

    async def post() -> int:
        return (await api.http.post(_body_of(MEBIBYTE))).status

    async with asyncio.TaskGroup() as group:
        with write_locked(api.database):
            posts = [group.create_task(post()) for _ in range(6)]
            await eventually(lambda: api.collaborators.bodies._waiting, what="a body that waits for its turn")
            assert (await api.http.get("/livez")).status == 200
            assert (await api.http.get("/tasks")).status == 200

    assert [post.result() for post in posts] == [202] * 6


async def test_bodies_that_are_refused_make_room(api: Api) -> None:
    """However many large bodies were bad, the next good one is accepted."""
    for _ in range(4):
        assert (await api.http.post(_body_of(MEBIBYTE)[:-1])).status == 400

    assert (await api.http.post(_body_of(MEBIBYTE))).status == 202


def _body_of(size: int) -> bytes:
    start, end = b'{"action": "a", "data": {"fill": "', b'"}}'
    return start + b"x" * (size - len(start) - len(end)) + end


async def _only_message(broker: MemoryBroker) -> bytes:
    received: list[bytes] = []
    async with broker.subscribe(lambda delivery: received.append(delivery.body), channels=1, prefetch_count=5):
        await eventually(lambda: received, what="a message")
    [body] = received
    return body


async def test_while_the_broker_is_away_a_task_is_due_at_once(api: Api, memory_broker: MemoryBroker) -> None:
    """A worker takes it straight from the store, without the time that a dispatch may take; a delay stands."""
    with_broker = await api.http.submitted("sum")
    memory_broker.connected = False
    at_once = await api.http.submitted("sum")
    delayed = (await api.http.post({"action": "sum", "delay": 3600})).json["id"]

    due = dict(rows(api.database, "SELECT id, due_at FROM tasks"))
    now = system_clock()
    assert due[at_once] <= now < due[with_broker] < now + 60_000 < due[delayed]
