"""Checking data against a schema: which sentence a client reads, and what a schema can never bring about."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from taskqueue_api.datacheck import MAX_SENTENCE_CHARACTERS, DataCheck, data_check

FITTING: dict[str, Any] = {"size": {"width": 3}}


class Size(BaseModel):
    """Within a picture."""

    width: int = Field(ge=1)


class Resize(BaseModel):
    """Of many kinds of members."""

    model_config = ConfigDict(extra="forbid")

    size: Size
    frame: Size | None = None
    numbers: list[int | float] = []
    many: list[str] | None = None
    kind: Literal["jpeg", "png"] = "png"
    name: str = Field(default="", max_length=3)
    price: Decimal = Decimal(1)


def _check(schema: dict[str, Any]) -> DataCheck:
    check = data_check(schema)
    assert check is not None
    return check


RESIZE = _check(Resize.model_json_schema())


@pytest.mark.parametrize(
    "data",
    [{}, {"frame": None}, {"frame": {"width": 1}}, {"numbers": [1, 2.5, 2**70]}, {"price": "1.5"}, {"many": ["a"]}],
)
def test_data_that_a_model_takes_fit(data: dict[str, Any]) -> None:
    """They are let through."""
    assert RESIZE.fits(FITTING | data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"size": {}}, "data.size.width: required"),
        ({"size": {"width": 0}}, "data.size.width: the value is less than the minimum of 1"),
        ({"size": {"width": "3"}}, 'data.size.width: the value is not of type "integer"'),
        ({"frame": {}}, "data.frame.width: required"),
        ({"frame": 1}, 'data.frame: the value is not of type "object" and is not of type "null"'),
        ({"numbers": [1, "a"]}, 'data.numbers.1: the value is not of type "integer" and is not of type "number"'),
        ({"kind": "gif"}, 'data.kind: the value is not one of "jpeg" or "png"'),
        ({"name": "four"}, "data.name: the value is longer than 3 characters"),
        ({"colour": 1}, "data.colour: unknown to the action"),
    ],
)
def test_a_fault_is_told_with_its_place(data: dict[str, Any], sentence: str) -> None:
    """One sentence for people, which names the field and does not repeat what was sent."""
    assert not RESIZE.fits(FITTING | data)
    assert RESIZE.fault(FITTING | data) == sentence


def test_of_large_data_the_member_is_told_and_soon() -> None:
    """The library would collect a quarter of a million faults first, for seconds, while nobody else is served."""
    data = FITTING | {"many": [1] * 250_000}
    began = time.monotonic()

    assert not RESIZE.fits(data)
    assert RESIZE.fault(data) == "data.many does not fit the schema of the action"
    assert time.monotonic() - began < 0.5


def test_of_large_data_many_are_told_soon() -> None:
    """A schema with many members is not compiled anew for each of them, and for each client that has it wrong."""
    kinds = {
        f"d{i}": {"properties": {f"x{j}": {"type": "string", "minLength": j} for j in range(20)}} for i in range(60)
    }
    members = {f"m{i}": {"type": "string"} for i in range(400)}
    check = _check({"$defs": kinds, "properties": members | {"z": {"type": "integer"}}, "required": ["z"]})
    data: dict[str, Any] = dict.fromkeys(members, "x" * 30) | {"z": "one"}
    began = time.monotonic()

    for _ in range(50):
        assert check.fault(data) == "data.z does not fit the schema of the action"

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("place", ["data", "data.a"])
def test_what_fits_two_alternatives_where_one_is_allowed_is_told(place: str) -> None:
    """As it may be with unions that overlap."""
    union: dict[str, Any] = {"oneOf": [{}, {"not": {"type": "null"}}, {"type": "null"}]}
    check = _check(union if place == "data" else {"properties": {"a": union}})

    assert not check.fits({"a": 1})
    assert check.fault({"a": 1}) == f"{place}: the value fits more than one of what it may be"


def test_a_constant_that_holds_what_looks_like_a_pattern_stays_as_it_is() -> None:
    """It is no schema."""
    constant = {"pattern": "(?=a)"}
    for keyword, value in (("const", constant), ("enum", [constant])):
        check = _check({"properties": {"a": {keyword: value}}})
        assert check.fits({"a": constant})
        assert not check.fits({"a": {}})


def test_a_sentence_has_an_end() -> None:
    """Names of members are the client's, and may be long."""
    assert len(RESIZE.fault(FITTING | {"x" * 5_000: 1})) == MAX_SENTENCE_CHARACTERS


def test_a_date_is_the_models_affair() -> None:
    """RFC 3339 is stricter than pydantic: formats are not held against anybody."""
    check = _check({"properties": {"at": {"type": "string", "format": "date-time"}}})

    assert check.fits({"at": "2026-01-31"})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where a schema might be fetched from."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.setblocking(False)
        yield listening


def test_a_remote_reference_is_not_fetched(listener: socket.socket) -> None:
    """Such a schema is not used, and nobody is connected to."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema"

    assert data_check({"$ref": url}) is None
    assert data_check({"properties": {"a": {"$ref": url}}}) is None
    for harmless in (data_check({"$schema": url}), data_check({"$id": url, "type": "object"})):
        assert harmless is None or harmless.fits({})
    with pytest.raises(BlockingIOError):
        listener.accept()


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "nonsense"},
        {"$ref": "#/$defs/none"},
        {"$ref": "file:///etc/passwd"},
        {"properties": 1},
        _deep(5_000),
    ],
)
def test_a_schema_that_cannot_be_compiled_is_no_check(schema: dict[str, Any] | None) -> None:
    """It raises nothing."""
    assert data_check(schema) is None


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    """With itself alone, and with itself further down."""
    assert _check({"$ref": "#"}).fits({"a": 1})
    tree = _check({"type": "object", "properties": {"child": {"$ref": "#"}}})
    assert tree.fits({"child": {"child": {}}})
    assert tree.fault({"child": {"child": 1}}) == 'data.child.child: the value is not of type "object"'


def test_a_pattern_that_could_take_for_ever_is_left_aside() -> None:
    """What is beside it is checked; patterns that take linear time are, too."""
    check = _check({"properties": {"a": {"pattern": r"^(?=a)(a|a)*\d$", "maxLength": 50}, "b": {"pattern": "^(b+)+$"}}})

    assert check.fits({"a": "a" * 50})
    assert not check.fits({"a": "a" * 51})
    assert not check.fits({"b": "b" * 50_000 + "!"})
