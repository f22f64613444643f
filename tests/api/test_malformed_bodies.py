"""`POST /tasks` with a body that is not a request: 400 with a sentence, never 500, and nothing recorded."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskqueue import events
from tests.api.conftest import Api
from tests.support.database import rows

DEEP = 100_000

NOT_JSON = {
    "empty": b"",
    "blank": b" \n ",
    "no JSON": b"action=sum",
    "a word": b"nul",
    "single quotes": b"{'action': 'a'}",
    "a comment": b'{"action": "a"} // now',
    "a trailing comma": b'{"action": "a",}',
    "a leading zero": b'{"action": "a", "data": {"n": 01}}',
    "cut off": b'{"action": "a", "data": {',
    "something after it": b'{"action": "a"} {"action": "b"}',
    "a NUL after it": b'{"action": "a"}\x00',
    "NaN": b'{"action": "a", "data": {"n": NaN}}',
    "Infinity": b'{"action": "a", "data": {"n": Infinity}}',
    "minus Infinity": b'{"action": "a", "data": {"n": -Infinity}}',
    "a number without a finite value": b'{"action": "a", "data": {"n": 1e999}}',
    "an integer of 5,000 digits": b'{"action": "a", "data": {"n": ' + b"9" * 5_000 + b"}}",
    "bad UTF-8": b'{"action": "\xff"}',
    "overlong UTF-8": b'{"action": "\xc0\xaf"}',
    "UTF-8 of a surrogate": b'{"action": "\xed\xa0\x80"}',
    "a byte order mark": b'\xef\xbb\xbf{"action": "a"}',
    "UTF-16": '{"action": "a"}'.encode("utf-16"),
    "a lone surrogate": b'{"action": "\\ud800"}',
    "a lone surrogate in a name": b'{"action": "a", "data": {"\\udc00": 1}}',
    "a control character": b'{"action": "a\x01"}',
    "a bad escape": b'{"action": "\\x41"}',
}

NO_OBJECT = {"an array": b'["action"]', "a string": b'"action"', "a number": b"1", "true": b"true", "null": b"null"}

NO_ACTION = {
    "nothing": b"{}",
    "only data": b'{"data": {}}',
    "null": b'{"action": null}',
    "empty": b'{"action": ""}',
    "another case": b'{"Action": "a"}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_a_body_that_is_not_json_is_refused(api: Api, body: bytes) -> None:
    """RFC 8259 decides what JSON is, and one sentence says that it is not."""
    answer = await api.http.post(body)

    assert answer.is_error(400, "invalid JSON")


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT.keys())
async def test_json_that_is_not_an_object_is_refused(api: Api, body: bytes) -> None:
    """Only an object can be a request."""
    answer = await api.http.post(body)

    assert answer.is_error(400, "the body must be a JSON object")


@pytest.mark.parametrize("body", NO_ACTION.values(), ids=NO_ACTION.keys())
async def test_a_request_without_an_action_is_refused(api: Api, body: bytes) -> None:
    """Missing, null and empty are the same fault."""
    answer = await api.http.post(body)

    assert answer.is_error(400, "action required")


@pytest.mark.parametrize("action", [1, 0, False, True, ["a"], {"a": 1}, 1.5])
async def test_an_action_that_is_not_a_string_is_refused(api: Api, action: object) -> None:
    """Nothing is made into a name that was none."""
    answer = await api.http.post({"action": action})

    assert answer.is_error(400, "action must be a string")


async def test_an_action_of_201_characters_is_refused(api: Api) -> None:
    """One more than the limit."""
    answer = await api.http.post({"action": "a" * 201})

    assert answer.is_error(400, "action must be at most 200 characters long")


@pytest.mark.parametrize("data", [None, [], [1], "text", "", 1, 0, True, False])
async def test_data_that_is_not_an_object_is_refused(api: Api, data: object) -> None:
    """Data is an object or is not there; null is neither."""
    answer = await api.http.post({"action": "a", "data": data})

    assert answer.is_error(400, "data must be an object")


async def test_nesting_of_64_levels_within_the_body_is_accepted(api: Api) -> None:
    """The limit itself is within the limit, and is read back."""
    answer = await api.http.post(_nested(64))

    assert answer.status == 202
    assert (await api.http.task(answer.json["id"]))["payload"]["data"] == json.loads(_nested(64))["data"]


@pytest.mark.parametrize("levels", [65, 66, 199, 200, 201, DEEP])
async def test_deeper_nesting_is_refused(api: Api, levels: int) -> None:
    """It has a sentence of its own, and exhausts no stack."""
    answer = await api.http.post(_nested(levels))

    assert answer.is_error(400, "the body must not be nested more than 64 levels deep")


@pytest.mark.parametrize("body", [b"[" * DEEP, b'{"a":' * DEEP])
async def test_nesting_that_never_ends_is_refused(api: Api, body: bytes) -> None:
    """Brackets alone, as an attacker sends them, cost a 400."""
    answer = await api.http.post(body)

    assert answer.status == 400


async def test_the_longest_number_that_is_accepted_is_read_back(api: Api) -> None:
    """What the parser lets in, every later step can write and read."""
    number = "9" * 4_300

    answer = await api.http.post(b'{"action": "a", "data": {"n": ' + number.encode() + b"}}")

    assert answer.status == 202
    assert number.encode() in (await api.http.get(answer.headers["Location"])).body


async def test_a_refused_body_is_not_recorded(api: Api) -> None:
    """400 means that there is no task."""
    for body in (*NOT_JSON.values(), *NO_OBJECT.values(), *NO_ACTION.values()):
        await api.http.post(body)

    assert rows(api.database, "SELECT * FROM tasks") == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
REQUESTS = st.fixed_dictionaries({}, optional={"action": JSON_VALUES | st.text(), "data": JSON_VALUES, "id": st.text()})
GOOD_BODIES = st.builds(lambda value: json.dumps(value).encode(), REQUESTS | JSON_VALUES)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body of which a slice was replaced by something else."""
    body = draw(GOOD_BODIES)
    start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    return body[:start] + draw(st.binary(max_size=8)) + body[end:]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | GOOD_BODIES | damaged())
async def test_any_body_is_either_accepted_or_refused(api: Api, body: bytes) -> None:
    """Whatever is sent, the answer is 202 or 400 in JSON, what was accepted can be read back, and nothing breaks."""
    answer = await api.http.post(body)

    assert answer.status in (202, 400)
    if answer.status == 202:
        assert (await api.http.task(answer.json["id"]))["payload"]["action"] == json.loads(body)["action"]
    else:
        assert set(answer.json) == {"error"}
    assert not api.reports(events.REQUEST_FAILED)


def _nested(levels: int) -> bytes:
    """A request that holds so many levels within it: `data`, and lists."""
    inner = levels - 1
    return b'{"action": "a", "data": {"a": ' + b"[" * inner + b"]" * inner + b"}}"
