"""Checking a task's data against the JSON Schema of its action: never over the network, never for long."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError
from pydantic_core import to_json

EXPLAINED_BYTES: Final = 8 * 1024
"""Data up to this size are searched for the very place of a fault: that may take 20 µs for each fault there is."""

MAX_SENTENCE_CHARACTERS: Final = 300
_VALUE: Final = "the value"
_OF_MEMBERS: Final = ("properties", "$defs", "definitions")
_AS_IT_IS: Final = ("const", "enum")


class DataCheck:
    """One schema, compiled."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator = _compiled(schema)

    def fits(self, data: dict[str, Any]) -> bool:
        """Whether `data` is what the schema asks for. What the library cannot tell is let through."""
        try:
            return self._validator.is_valid(data)
        except ValueError:
            return True

    def fault(self, data: dict[str, Any]) -> str:
        """A sentence that says what is wrong with `data`, which does not fit, and where."""
        if len(to_json(data)) > EXPLAINED_BYTES:
            return self._rough_fault(data)
        try:
            self._validator.validate(data)
        except ValidationError as error:
            return _sentence(error)[:MAX_SENTENCE_CHARACTERS]
        return "data does not fit the schema of the action"

    def _rough_fault(self, data: dict[str, Any]) -> str:
        """Names a member at most, by asking of each whether it fits."""
        if self._members is not None:
            for name in self._schema.get("properties", {}):
                if name in data and not self._members.fits({name: data[name]}):
                    return f"data.{name} does not fit the schema of the action"
        return "data does not fit the schema of the action"

    @cached_property
    def _members(self) -> "DataCheck | None":
        """What the schema says of each member by itself. Compiled once: many clients may send what does not fit."""
        return data_check({name: self._schema[name] for name in _OF_MEMBERS if name in self._schema})


def data_check(schema: Mapping[str, Any] | None) -> DataCheck | None:
    """The check for a schema; None where there is none, or where it cannot be used: then data are not checked."""
    try:
        return DataCheck(schema) if schema is not None else None
    except (ValueError, TypeError, RecursionError):
        return None


def _compiled(schema: Mapping[str, Any]) -> Draft202012Validator:
    # Formats are notes in JSON Schema, and pydantic reads dates more generously than its own notes say.
    return Draft202012Validator(
        _in_linear_time(schema),
        offline=True,
        validate_formats=False,
        pattern_options=RegexOptions(),
        mask=_VALUE,
    )


def _in_linear_time(schema: Any) -> Any:
    """The schema without patterns that need backtracking: a client could make such a one take for ever."""
    if isinstance(schema, list):
        return [_in_linear_time(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name in _AS_IT_IS else _in_linear_time(value)
        for name, value in schema.items()
        if not (name == "pattern" and isinstance(value, str) and not _is_linear(value))
    }


def _is_linear(pattern: str) -> bool:
    try:
        Draft202012Validator({"pattern": pattern}, pattern_options=RegexOptions())
    except ValueError:
        return False
    return True


def _sentence(error: ValidationError) -> str:
    """The fault with its place: `data.size.width: …`."""
    place: list[str | int] = ["data", *error.instance_path]
    details = error.kind.as_dict()
    match error.kind.name:
        case "required":
            return f"{_path([*place, details['property']])}: required"
        case "additionalProperties" | "unevaluatedProperties":
            return f"{_path([*place, details['unexpected'][0]])}: unknown to the action"
        case "anyOf" | "oneOf" if details.get("context"):
            return _sentence_of_branches(place, details["context"])
        case _:
            return f"{_path(place)}: {error.message}"


def _sentence_of_branches(place: Sequence[str | int], branches: Sequence[Sequence[ValidationError]]) -> str:
    """Of alternatives: the one that came furthest, or else what each of them wanted; or that more than one fits."""
    faults = [branch[0] for branch in branches if branch]
    if len(faults) < len(branches):
        return f"{_path(place)}: {_VALUE} fits more than one of what it may be"
    furthest = max(faults, key=_how_far)
    if _how_far(furthest) > (len(place) - 1, False):
        return _sentence(furthest)
    wishes = " and ".join(dict.fromkeys(fault.message.removeprefix(f"{_VALUE} ") for fault in faults))
    return f"{_path(place)}: {_VALUE} {wishes}"


def _how_far(fault: ValidationError) -> tuple[int, bool]:
    """How deep an alternative looked, and whether the value was at least of its type."""
    return len(fault.instance_path), fault.kind.name != "type"


def _path(place: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in place)
