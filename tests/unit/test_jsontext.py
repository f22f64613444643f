"""JSON both ways: only what RFC 8259 has, and never an exhausted stack."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from taskqueue import jsontext
from taskqueue.jsontext import InvalidJSON, NestedTooDeep

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner), max_leaves=20
)


class Point(BaseModel):
    """A model, as a handler may return it."""

    x: int = 1


@given(VALUES)
def test_a_value_comes_back_as_it_went(value: Any) -> None:
    """What encode writes, decode reads as the same value."""
    assert jsontext.decode(jsontext.encode(value)) == value


@given(VALUES)
def test_the_text_is_the_same_to_python_itself(value: Any) -> None:
    """Texts are exchanged with other programs: the standard library reads ours, and we read its."""
    assert json.loads(jsontext.encode(value)) == value
    assert jsontext.decode(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_decode_fails_only_as_it_says(text: bytes) -> None:
    """Whatever the bytes, the answer is a value or one of two errors."""
    try:
        jsontext.decode(text)
    except (InvalidJSON, NestedTooDeep):
        return
    assert json.loads(text) is not ...


def test_the_text_is_compact() -> None:
    """No blank is stored or sent."""
    assert jsontext.encode({"a": [1, 2.5, None], "é": True}) == '{"a":[1,2.5,null],"é":true}'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(Point(), b'{"x":1}', id="a model"),
        pytest.param([Point(x=2)], b'[{"x":2}]', id="models in a list"),
        pytest.param(datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"', id="an instant"),
        pytest.param(Decimal("1.50"), b'"1.50"', id="a decimal"),
        pytest.param((1, 2), b"[1,2]", id="a tuple"),
    ],
)
def test_what_has_a_plain_form_in_json_is_encoded(value: Any, text: bytes) -> None:
    """A handler may return models and instants."""
    assert jsontext.encode(value) == text


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(math.nan, id="NaN"),
        pytest.param([math.inf], id="infinity"),
        pytest.param({"a": -math.inf}, id="minus infinity"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param({"\udfff": 1}, id="lone surrogate in a key"),
        pytest.param(object(), id="an object"),
        pytest.param(b"\xff", id="bytes that are no text"),
        pytest.param(10**5_000, id="5,000 digits"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    """Nothing is written that a reader would stumble over."""
    with pytest.raises(InvalidJSON):
        jsontext.encode(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    """It has no end."""
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidJSON):
        jsontext.encode(endless)


def test_nesting_ends_at_64_levels_both_ways() -> None:
    """64 levels within the outermost are taken; one more is refused, in the same place by both directions."""
    deepest = _nested(64)
    text = jsontext.encode(deepest)
    assert jsontext.decode(text) == deepest

    with pytest.raises(NestedTooDeep, match="more than 64 levels"):
        jsontext.encode(_nested(65))
    with pytest.raises(NestedTooDeep):
        jsontext.decode(b"[" + text + b"]")


@pytest.mark.parametrize("levels", [150, 199, 200, 300, 5_000])
def test_deep_nesting_is_told_from_bad_json(levels: int) -> None:
    """The parser's own limit, reached before ours is asked, is the same fault."""
    with pytest.raises(NestedTooDeep):
        jsontext.decode(b"[" * levels + b"]" * levels)


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_deep_nesting_does_not_exhaust_the_stack(levels: int) -> None:
    """A handler's result of any depth is refused by an error that the worker knows."""
    with pytest.raises((NestedTooDeep, InvalidJSON)):
        jsontext.encode(_nested(levels))


def test_a_wide_value_is_not_deep() -> None:
    """Only depth is bounded here; size is bounded where bytes come in."""
    wide = [[[1]] * 1_000, {str(number): [] for number in range(1_000)}]

    assert jsontext.decode(jsontext.encode(wide)) == wide


def _nested(levels: int) -> list[Any]:
    """A list with `levels` lists within it."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value
