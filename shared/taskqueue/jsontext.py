"""JSON as RFC 8259 has it, both ways: no NaN, no infinities, no lone surrogates, bounded nesting."""

from math import isfinite
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

MAX_NESTING = 64


class InvalidJSON(ValueError):
    """The text is not JSON."""


class NestedTooDeep(ValueError):
    """The value is nested more than 64 levels deep."""

    def __init__(self) -> None:
        super().__init__(f"nested more than {MAX_NESTING} levels deep")


def decode(text: bytes) -> Any:
    """The value of `text`, UTF-8 with nothing after it.

    Raises InvalidJSON, or NestedTooDeep for valid JSON nested over 64 levels.
    """
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        too_deep = "recursion limit" in str(error)  # the parser's own, at 200 levels
        raise (NestedTooDeep() if too_deep else InvalidJSON(str(error))) from error
    _check(value)
    return value


def encode(value: Any) -> bytes:
    """`value` as compact JSON. Raises InvalidJSON where it holds what JSON cannot, NestedTooDeep over 64 levels."""
    try:
        text = to_json(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidJSON(str(error)) from error
    decode(text)
    return text


def _check(value: Any) -> None:
    """Walks `value` level by level, without recursion: the depth is the caller's to choose."""
    level = [[value]]
    for _ in range(MAX_NESTING + 2):
        level = [_members(item) for members in level for item in members if _holds_members(item)]
        if not level:
            return
    raise NestedTooDeep


def _holds_members(value: Any) -> bool:
    if isinstance(value, float) and not isfinite(value):
        raise InvalidJSON("number out of range")  # 1e999 is within the grammar but has no finite value
    return isinstance(value, dict | list)


def _members(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
