"""The wire contract's own rules: what a request may be, and where a task may go."""

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from taskqueue.errors import InvalidRequest
from taskqueue.requests import TaskRequest, parse_batch
from taskqueue.schema import HIGH, LEGAL_TRANSITIONS, Task, TaskStatus, sources_of


def test_a_request_has_an_action_and_data() -> None:
    """Both members are taken as they are."""
    request = TaskRequest.parse(b'{"action": "sum", "data": {"numbers": [1, 2.5], "note": "\\u00e9\\u0000"}}')

    assert request == TaskRequest(action="sum", data={"numbers": [1, 2.5], "note": "é\0"})


def test_data_is_empty_where_a_request_has_none() -> None:
    """`data` defaults to {}."""
    assert TaskRequest.parse(b'{"action": "sum"}').data == {}


def test_members_that_a_request_does_not_know_are_left_aside() -> None:
    """A newer client's request is still a request."""
    request = TaskRequest.parse(b'{"action": "sum", "queue": 3, "id": "mine"}')

    assert request == TaskRequest(action="sum")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"action=sum", id="a form"),
        pytest.param(b'{"action": "sum"', id="cut off"),
        pytest.param(b'{"action": "sum"} x', id="trailing data"),
        pytest.param(b'{"action": "sum"}{}', id="two objects"),
        pytest.param(b'{"action": "sum",}', id="trailing comma"),
        pytest.param(b"{'action': 'sum'}", id="single quotes"),
        pytest.param(b'{"action": "sum"} // why', id="comment"),
        pytest.param(b'\xef\xbb\xbf{"action": "sum"}', id="byte order mark"),
        pytest.param('{"action": "sum"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"action": "\xff"}', id="bad UTF-8"),
        pytest.param(b'{"action": "\xc0\x80"}', id="overlong UTF-8"),
        pytest.param(b'{"action": "\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"action": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"action": "\\udc00\\ud800"}', id="surrogates the wrong way round"),
        pytest.param(b'{"action": "a\x00"}', id="raw NUL"),
        pytest.param(b'{"action": "a\nb"}', id="raw line feed"),
        pytest.param(b'{"action": "\\x41"}', id="unknown escape"),
        pytest.param(b'{"action": "a", "data": {"n": NaN}}', id="NaN"),
        pytest.param(b'{"action": "a", "data": {"n": Infinity}}', id="infinity"),
        pytest.param(b'{"action": "a", "data": {"n": -Infinity}}', id="minus infinity"),
        pytest.param(b'{"action": "a", "data": {"n": 1e999}}', id="out of range"),
        pytest.param(b'{"action": "a", "data": {"n": [{"m": -1e999}]}}', id="out of range, deep down"),
        pytest.param(b'{"action": "a", "data": {"n": 01}}', id="leading zero"),
        pytest.param(b'{"action": "a", "data": {"n": 0x1}}', id="hexadecimal"),
        pytest.param(b'{"action": "a", "data": {"n": ' + b"9" * 5_000 + b"}}", id="5,000 digits"),
        pytest.param(b'{"action": "a", "data": {n: 1}}', id="bare key"),
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    """The sentence is `invalid JSON`, to the letter."""
    assert _refusal(body) == "invalid JSON"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"sum"', b"1", b"true", b'[{"action": "sum"}]'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """The sentence says what a body must be."""
    assert _refusal(body) == "the body must be a JSON object"


@pytest.mark.parametrize("body", [b"{}", b'{"action": null}', b'{"action": ""}', b'{"data": {}}', b'{"Action": "sum"}'])
def test_a_request_without_an_action_is_refused(body: bytes) -> None:
    """Missing, null and empty are one: `action required`, to the letter."""
    assert _refusal(body) == "action required"


@pytest.mark.parametrize("action", [0, 1, 1.5, True, False, [], ["sum"], {}, {"a": 1}])
def test_an_action_that_is_no_string_is_refused(action: Any) -> None:
    """Nothing is turned into a string for the client."""
    assert _refusal(json.dumps({"action": action}).encode()) == "action must be a string"


def test_an_action_has_at_most_200_characters() -> None:
    """Characters are counted, not bytes; one more is refused with a sentence that says the limit."""
    assert TaskRequest.parse(json.dumps({"action": "é" * 200}).encode()).action == "é" * 200

    assert _refusal(json.dumps({"action": "e" * 201}).encode()) == "action must be at most 200 characters long"


@pytest.mark.parametrize("data", [None, [], [1], "text", 1, 0, True, False])
def test_data_that_is_no_object_is_refused(data: Any) -> None:
    """Null is no object either."""
    assert _refusal(json.dumps({"action": "sum", "data": data}).encode()) == "data must be an object"


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_data_is_nested_at_most_64_levels_deep(opening: bytes, closing: bytes) -> None:
    """64 levels within the body are taken, one more is refused, and so is what would exhaust a recursive parser."""
    assert TaskRequest.parse(_nested(opening, closing, levels=64)).action == "a"

    for levels in (65, 199, 201, 100_000):
        refusal = _refusal(_nested(opening, closing, levels))
        assert refusal == "the body must not be nested more than 64 levels deep"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_body_of_opening_brackets_is_refused(body: bytes) -> None:
    """Whichever fault is told, there is a sentence and no exhausted stack."""
    assert _refusal(body)


def test_options_are_in_the_units_of_the_store() -> None:
    """Seconds become milliseconds, a delay an instant, any priority one of two levels; a tag is a tag once."""
    body = {"action": "a", "delay": 1.5, "timeout": 0.0001, "priority": 9, "tags": ["x", "y", "x"], "max_attempts": 2}

    options = TaskRequest.parse(json.dumps(body).encode()).options(now=1_000, traceparent="trace")

    assert (options.run_at, options.timeout, options.priority) == (2_500, 1, HIGH)
    assert (options.tags, options.max_attempts, options.traceparent) == (("x", "y"), 2, "trace")


def test_a_batch_keeps_its_order_and_names_its_first_fault() -> None:
    """The place in the list stands before the sentence; the list has 1 to 1,000 members."""
    assert [request.action for request in parse_batch(b'{"tasks": [{"action": "a"}, {"action": "b"}]}')] == ["a", "b"]

    with pytest.raises(InvalidRequest, match=r"^tasks\[1\]: data must be an object$"):
        parse_batch(b'{"tasks": [{"action": "a"}, {"action": "b", "data": 1}, {}]}')
    for count in (0, 1_001):
        with pytest.raises(InvalidRequest, match=r"^tasks must have 1 to 1000 members$"):
            parse_batch(json.dumps({"tasks": [{"action": "a"}] * count}).encode())


def test_a_request_cannot_be_changed() -> None:
    """What was validated stays valid."""
    request = TaskRequest(action="sum")

    with pytest.raises(ValidationError, match="frozen"):
        request.action = "other"  # type: ignore[misc]


def test_each_new_task_has_a_random_id_of_its_own() -> None:
    """Ids are version 4 UUIDs in their usual form."""
    request = TaskRequest(action="sum", data={"numbers": [1]})

    first, second = request.payload(1), request.payload(1)

    assert first.id != second.id
    assert [first.id, 4] == [str(UUID(first.id)), UUID(first.id).version]
    assert first.model_dump(exclude={"id"}) == {"action": "sum", "data": {"numbers": [1]}, "created_at": 1}


def test_whatever_is_accepted_can_be_stored_and_read_back() -> None:
    """The extremes of what a request may hold survive the database's text and a client's read."""
    extremes = {"n": 10**4_299, "e": 1.7976931348623157e308, "tiny": 5e-324, "s": "\0\u2028\U0001f600", "": None}
    payload = TaskRequest.parse(json.dumps({"action": "a", "data": extremes}).encode()).payload(1)

    task = _task(payload.model_dump_json())

    assert task.payload["data"] == extremes
    assert json.loads(task.model_dump_json())["payload"]["data"] == extremes


def test_statuses_are_those_of_the_design() -> None:
    """Clients see these words."""
    assert [str(status) for status in TaskStatus] == [
        "pending",
        "queued",
        "running",
        "completed",
        "failed",
        "cancelled",
    ]


@pytest.mark.parametrize(
    ("status", "leaves_for"),
    [
        ("pending", {"queued", "running", "cancelled"}),
        ("queued", {"running", "cancelled", "pending"}),
        ("running", {"completed", "failed", "cancelled", "pending"}),
        ("completed", set()),
        ("failed", {"pending"}),
        ("cancelled", {"pending"}),
    ],
)
def test_a_task_goes_where_the_design_lets_it(status: str, leaves_for: set[str]) -> None:
    """Dispatch, claim, settle, cancel, found lost, lease run out, retry by hand: those ways and no others."""
    assert LEGAL_TRANSITIONS[TaskStatus(status)] == leaves_for


def test_the_sources_of_a_status_are_its_transitions_backwards() -> None:
    """Guards are made of `sources_of`, so it agrees with the table for every pair."""
    for source in TaskStatus:
        for target in TaskStatus:
            assert (source in sources_of(target)) == (target in LEGAL_TRANSITIONS[source])


def _refusal(body: bytes) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        TaskRequest.parse(body)
    return str(refusal.value)


def _nested(opening: bytes, closing: bytes, levels: int) -> bytes:
    """A request with `levels` levels within the body's own; the first of them is `data`."""
    return b'{"action":"a","data":{"a":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}}"


def _task(payload: str) -> Task:
    unsaid = dict.fromkeys(
        (
            "result",
            "processed_at",
            "error",
            "run_at",
            "expires_at",
            "timeout",
            "max_attempts",
            "progress",
            "schedule_id",
        )
    )
    told = {"id": "a", "payload": payload, "status": "pending", "created_at": 1, "attempts": 0, "action": "a"}
    more = {"priority": 0, "tags": "[]", "history": [], "timings": {"waited": None, "ran": None}}
    return Task.model_validate({**unsaid, **told, **more})
