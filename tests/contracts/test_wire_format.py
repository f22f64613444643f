"""The message format, byte for byte: what other producers and other versions of this system rely on."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.errors import UnreadableMessage
from taskqueue.schema import TaskMessage, TaskPayload

GOLDEN = (
    b'{"v":1,"id":"0b7e5bd6-36a4-4f0f-9f2a-0c9ad5d8a1f2","action":"sum","data":{"numbers":[1,2.5],"note":"\xc3\xa9"},'
    b'"created_at":1700000000,"attempt":2,"dispatched_at":1700000001234,"priority":0,"alone":false}'
)
FIRST_RELEASE = GOLDEN.replace(b',"priority":0,"alone":false', b"")
GOLDEN_MESSAGE = TaskMessage(
    id="0b7e5bd6-36a4-4f0f-9f2a-0c9ad5d8a1f2",
    action="sum",
    data={"numbers": [1, 2.5], "note": "é"},
    created_at=1_700_000_000,
    attempt=2,
    dispatched_at=1_700_000_001_234,
)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)
INSTANTS = st.integers(min_value=0, max_value=4_102_444_800_000)
MESSAGES = st.builds(
    TaskMessage,
    id=TEXT,
    action=TEXT,
    data=st.dictionaries(st.text(st.characters(codec="utf-8")), JSON),
    created_at=st.none() | INSTANTS,
    attempt=st.integers(min_value=0, max_value=10_000),
    dispatched_at=INSTANTS,
)


def test_a_message_is_written_as_version_1() -> None:
    """These bytes are in queues and in other programs: they change only with a new version."""
    assert GOLDEN_MESSAGE.encode() == GOLDEN


@pytest.mark.parametrize("body", [GOLDEN, FIRST_RELEASE])
def test_version_1_is_read(body: bytes) -> None:
    """What any release has written is read by this one."""
    assert TaskMessage.decode(body) == GOLDEN_MESSAGE


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"a","action":"sum"}', id="id and action"),
        pytest.param(b'{"v":1,"id":"a","action":"sum"}', id="with a version"),
        pytest.param(b' {\r\n"action" : "sum",\t"id" : "a" }\n', id="with blanks, in another order"),
        pytest.param(b'{"id":"a","action":"sum","data":{},"created_at":null}', id="with empty members"),
        pytest.param(b'{"id":"a","action":"sum","queue":3,"trace":{"a":[]}}', id="with members of a later version"),
        pytest.param(b'{"id":"\\u0061","action":"s\\u0075m"}', id="with escapes"),
    ],
)
def test_other_producers_need_to_send_little(body: bytes) -> None:
    """An id and an action are a message; what is not sent has its default, what is not known is left aside."""
    assert TaskMessage.decode(body) == TaskMessage(id="a", action="sum", data={}, created_at=None)


def test_a_message_without_an_instant_is_created_now() -> None:
    """The instant is that of whoever records the task; one that is sent counts."""
    unknown, known = TaskMessage(id="a", action="sum"), TaskMessage(id="a", action="sum", created_at=3)

    assert unknown.payload(created_at=7) == TaskPayload(id="a", action="sum", data={}, created_at=7)
    assert known.payload(created_at=7) == TaskPayload(id="a", action="sum", data={}, created_at=3)


def test_a_message_carries_its_tasks_payload() -> None:
    """What was accepted is what travels."""
    payload = TaskPayload(id="a", action="sum", data={"numbers": [1]}, created_at=3)

    message = TaskMessage.decode(TaskMessage.of(payload, attempt=4, dispatched_at=5).encode())

    assert message.payload(created_at=7) == payload
    assert (message.attempt, message.dispatched_at) == (4, 5)


@pytest.mark.parametrize("version", [0, 2, 99, -1, 10**4_000, None, "1", [1], {"v": 1}, 1.5, "\n" * 1_000])
def test_an_unknown_version_is_refused(version: Any) -> None:
    """Its meaning is not guessed at; the reason names the version, on one short line."""
    reason = _reason(json.dumps({"v": version, "id": "a", "action": "sum"}).encode())

    assert reason.startswith("message version ")
    assert reason.endswith("is not known, only 1 is")
    assert len(reason) < 100
    assert "\n" not in reason


def test_an_unknown_version_is_told_before_what_else_is_wrong() -> None:
    """A later version may have other members."""
    assert _reason(b'{"v":2,"task":{}}') == "message version 2 is not known, only 1 is"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "invalid JSON", id="nothing"),
        pytest.param(b"hello", "invalid JSON", id="not JSON"),
        pytest.param(GOLDEN[:-1], "invalid JSON", id="cut off"),
        pytest.param(GOLDEN + b"x", "invalid JSON", id="trailing data"),
        pytest.param(b"\x80\x04\x95\x0b\x00", "invalid JSON", id="a pickle"),
        pytest.param(b"\x00", "invalid JSON", id="NUL"),
        pytest.param(b'{"id":"a\x00","action":"sum"}', "invalid JSON", id="NUL in a string"),
        pytest.param(b'{"id":"\xff\xfe","action":"sum"}', "invalid JSON", id="bad UTF-8"),
        pytest.param(b'{"id":"\\ud800","action":"sum"}', "invalid JSON", id="lone surrogate"),
        pytest.param(b'{"id":"a","action":"sum","data":{"n":NaN}}', "invalid JSON", id="NaN"),
        pytest.param(b'{"id":"a","action":"sum","data":{"n":-Infinity}}', "invalid JSON", id="infinity"),
        pytest.param(b'{"id":"a","action":"sum","data":{"n":1e999}}', "invalid JSON", id="out of range"),
        pytest.param(
            b'{"id":"a","action":"sum","data":{"n":' + b"7" * 5_000 + b"}}", "invalid JSON", id="5,000 digits"
        ),
        pytest.param(b"null", "the body must be a JSON object", id="null"),
        pytest.param(b'["a","sum"]', "the body must be a JSON object", id="a list"),
        pytest.param(b"{}", "id required", id="empty"),
        pytest.param(b'{"id":"a"}', "action required", id="no action"),
        pytest.param(b'{"id":"","action":"sum"}', "id must not be empty", id="empty id"),
        pytest.param(b'{"id":"a","action":""}', "action must not be empty", id="empty action"),
        pytest.param(b'{"id":1,"action":"sum"}', "id must be a string", id="id of another type"),
        pytest.param(b'{"id":null,"action":"sum"}', "id must be a string", id="null id"),
        pytest.param(b'{"id":"a","action":["sum"]}', "action must be a string", id="action of another type"),
        pytest.param(b'{"id":"a","action":"sum","data":[]}', "data must be an object", id="data of another type"),
        pytest.param(b'{"id":"a","action":"sum","data":null}', "data must be an object", id="null data"),
        pytest.param(
            b'{"id":"%s","action":"sum"}' % (b"a" * 201), "id must be at most 200 characters long", id="long id"
        ),
        pytest.param(
            b'{"id":"a","action":"%s"}' % (b"a" * 201), "action must be at most 200 characters long", id="long action"
        ),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    """An operator who looks at the dead letters reads what is wrong with each."""
    assert _reason(body) == reason


@pytest.mark.parametrize("member", ["v", "attempt", "dispatched_at", "created_at"])
@pytest.mark.parametrize("value", [-1, 1.0, 1.5, True, "1", [], {}, 2**63, 10**30, 10**4_000])
def test_a_number_that_is_none_is_refused(member: str, value: Any) -> None:
    """Nor is one that no database could hold, or that lies beyond all time."""
    reason = _reason(json.dumps({"id": "a", "action": "sum", member: value}).encode())

    assert "version" in reason or reason.startswith((f"{member} ", f"{member}: "))


@pytest.mark.parametrize("levels", [65, 199, 201, 1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_deep_nesting_is_refused(levels: int, opening: bytes, closing: bytes) -> None:
    """Without an exhausted stack, and with a reason."""
    body = b'{"id":"a","action":"sum","data":{"a":' + opening * levels + b"1" + closing * levels + b"}}"

    assert _reason(body) == "the body must not be nested more than 64 levels deep"


@given(st.binary(max_size=300))
def test_no_bytes_break_decode(body: bytes) -> None:
    """It answers a message, or raises the one error that buries it."""
    _decodes_or_refuses(body)


@given(st.dictionaries(st.sampled_from([*TaskMessage.model_fields, "x"]), JSON))
def test_no_json_object_breaks_decode(members: dict[str, Any]) -> None:
    """Members of any value: a message, or that one error."""
    _decodes_or_refuses(json.dumps(members).encode())


@given(st.data())
def test_no_damage_to_a_message_breaks_decode(data: st.DataObject) -> None:
    """A byte changed, lost or doubled anywhere: a message, or that one error."""
    position = data.draw(st.integers(min_value=0, max_value=len(GOLDEN) - 1))
    instead = data.draw(st.binary(max_size=3))

    _decodes_or_refuses(GOLDEN[:position] + instead + GOLDEN[position + 1 :])


@given(MESSAGES)
def test_a_message_comes_back_as_it_went(message: TaskMessage) -> None:
    """Encoded and decoded, it is the same."""
    assert TaskMessage.decode(message.encode()) == message


@given(MESSAGES)
def test_a_message_is_plain_json(message: TaskMessage) -> None:
    """Every member is there under its name, for programs in any language."""
    assert json.loads(message.encode()) == message.model_dump()


def _decodes_or_refuses(body: bytes) -> None:
    try:
        message = TaskMessage.decode(body)
    except UnreadableMessage:
        return
    assert TaskMessage.decode(message.encode()) == message


def _reason(body: bytes) -> str:
    with pytest.raises(UnreadableMessage) as refusal:
        TaskMessage.decode(body)
    return str(refusal.value)


def test_a_message_larger_than_any_request_is_unreadable() -> None:
    """It is refused before it is parsed: it would be many times as large in memory, and no attempt counts yet."""
    with pytest.raises(UnreadableMessage, match="larger than"):
        TaskMessage.decode(b'{"id":"a","action":"x","data":{"a":[' + b"[]," * 2_000_000 + b"[]]}}")
