"""What user code sees: from a function to an action, and from actions to a registry."""

from datetime import UTC, datetime
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from taskqueue.actions import (
    Action,
    Backoff,
    Context,
    Fail,
    InvalidData,
    NotInAProcess,
    Progress,
    RetryAfter,
    action,
)
from taskqueue.actions.contract import Handler
from taskqueue.actions.registry import DuplicateAction, Registry, actions_in
from taskqueue.actions.testing import run_action

CONTEXT = Context(task_id="a", attempt=1, deadline=0)


class Size(BaseModel):
    """Within a picture."""

    width: int = Field(ge=1)
    height: int = 1


class Resize(BaseModel):
    """What a handler may want its data to be."""

    size: Size
    name: str = "picture"
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _has_a_name(self) -> "Resize":
        if not self.name:
            raise ValueError("a picture has a name")
        return self


def test_a_handler_may_take_the_data_alone() -> None:
    """As the dict that was posted."""

    @action("plain")
    def plain(data: dict[str, Any]) -> Any:
        return data

    assert (plain.name, plain.model, plain.wants_context, plain.blocking) == ("plain", None, False, True)
    assert plain.arguments({"a": 1}, CONTEXT) == ({"a": 1},)


def test_a_handler_may_take_the_context_too() -> None:
    """Whatever it calls it."""

    @action("curious")
    async def curious(data: dict[str, Any], ctx: Context) -> Any:
        return data, ctx

    assert (curious.wants_context, curious.blocking) == (True, False)
    assert curious.arguments({}, CONTEXT) == ({}, CONTEXT)


def test_a_handler_may_take_a_model() -> None:
    """Data are validated before the handler sees them."""

    @action("resize")
    def resize(data: Resize, context: Context) -> Any:
        return data, context

    assert resize.model is Resize
    assert resize.arguments({"size": {"width": "3"}}, CONTEXT) == (Resize(size=Size(width=3)), CONTEXT)


def test_a_model_may_be_annotated() -> None:
    """What else an annotation carries does not hide the model."""

    @action("resize")
    def resize(data: Annotated[Resize, "in pixels"]) -> Any:
        return data

    assert resize.model is Resize


def test_a_handler_needs_no_annotations() -> None:
    """An unannotated handler takes a dict."""

    @action("plain")
    def plain(data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return data

    assert plain.arguments({"a": 1}, CONTEXT) == ({"a": 1},)


async def test_a_decorated_handler_is_called_as_before() -> None:
    """Users test their own functions directly, plain or async."""

    @action("double")
    def double(data: dict[str, Any]) -> Any:
        return data["n"] * 2

    @action("triple")
    async def triple(data: dict[str, Any]) -> Any:
        return data["n"] * 3

    assert double({"n": 2}) == 4
    assert await triple({"n": 2}) == 6


def _none() -> None:
    """No place for the data."""


def _three(data: Any, context: Any, more: Any) -> None:
    """One too many."""


def _by_name_only(*, data: Any) -> None:
    """Cannot be called with the data in the first place."""


def _context_by_name_only(data: Any, *, context: Any) -> None:
    """Cannot be called with the context in the second place."""


def _names(**data: Any) -> None:
    """Takes no data in the first place either."""


@pytest.mark.parametrize("handler", [_none, _three, _by_name_only, _context_by_name_only, _names])
def test_a_function_of_another_shape_is_refused(handler: Handler) -> None:
    """When it is decorated, which is before any task can meet it; the sentence names the action."""
    with pytest.raises(TypeError, match="the handler of 'odd' must take the data"):
        action("odd")(handler)


@pytest.mark.parametrize("name", ["", "a" * 201])
def test_a_name_that_no_task_can_have_is_refused(name: str) -> None:
    """Such an action could never be asked for."""
    with pytest.raises(ValueError, match="1 to 200 characters"):
        action(name)


def test_a_name_that_utf_8_cannot_write_is_refused() -> None:
    """Its worker could not be listed, nor a task ask for it."""
    with pytest.raises(ValueError, match="cannot be written in UTF-8"):
        action("\ud800")


def test_the_longest_name_is_an_action() -> None:
    """200 characters are a name, of any script."""
    assert action("é" * 200)(_one).name == "é" * 200


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "data.size: Field required"),
        ({"size": {}}, "data.size.width: Field required"),
        ({"size": {"width": "wide"}}, "data.size.width: Input should be a valid integer"),
        ({"size": {"width": 0}}, "data.size.width: Input should be greater than or equal to 1"),
        ({"size": {"width": 1}, "name": ""}, "data: Value error, a picture has a name"),
        ({"size": []}, "data.size: Input should be a valid dictionary or instance of Size"),
    ],
)
def test_data_that_does_not_fit_is_told_in_sentences(data: dict[str, Any], sentence: str) -> None:
    """Each names the place within the data and what is wrong there."""
    assert sentence in _refusal(data)


def test_every_fault_of_the_data_is_told() -> None:
    """The error of a failed task names all of them."""
    refusal = _refusal({"size": {"height": "tall"}, "name": 3})

    for place in ("data.size.width: ", "data.size.height: ", "data.name: "):
        assert place in refusal


def test_a_refusal_repeats_no_value() -> None:
    """The data may hold secrets, and an error is shown to whoever lists tasks."""
    assert "hunter2" not in _refusal({"size": "hunter2", "password": ["hunter2"]})


class Odd(BaseModel):
    """A model that JSON Schema cannot express."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    module: ModuleType


def test_an_action_tells_what_data_it_takes() -> None:
    """By JSON Schema, made from the model; where there is none, any object will do."""

    @action("resize")
    def resize(data: Resize) -> Any:
        """Makes a picture smaller.

        Never larger.
        """

    @action("odd")
    def odd(data: Odd) -> Any:
        return data

    assert resize.schema["required"] == ["size"]
    assert resize.schema["properties"]["name"]["type"] == "string"
    assert resize.description == "Makes a picture smaller.\n\nNever larger."
    assert (_action("plain").schema, _action("plain").description) == ({"type": "object"}, "")
    assert odd.schema == {"type": "object"}


def test_an_action_has_limits_of_its_own() -> None:
    """Those that are not given are left to the task and the settings."""
    backoff = Backoff(first=5)
    limited = action("a", timeout=30, max_attempts=3, backoff=backoff)(_one)

    assert (limited.timeout, limited.max_attempts, limited.backoff, limited.process) == (30, 3, backoff, False)
    assert (_action("b").timeout, _action("b").max_attempts, _action("b").backoff) == (None, None, None)


@pytest.mark.parametrize(
    "limits",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": 86_401},
        {"max_attempts": 0},
        {"max_attempts": 1001},
    ],
)
def test_limits_that_no_task_can_have_are_refused(limits: dict[str, Any]) -> None:
    """When the decorator is called; the sentence names the action."""
    with pytest.raises(ValueError, match="'odd' must be from"):
        action("odd", **limits)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
def test_a_retry_is_asked_for_within_reason(seconds: float) -> None:
    """What cannot be kept is the handler's mistake."""
    with pytest.raises(ValueError, match="the seconds until another attempt"):
        RetryAfter(seconds)


def test_a_retry_is_due_in_seconds_or_at_an_instant() -> None:
    """An instant that has passed is now; one without a time zone is none."""
    instant = datetime(2026, 1, 1, tzinfo=UTC)

    assert RetryAfter(30).due(1000) == 1030
    assert RetryAfter.at(instant).due(1000) == instant.timestamp()
    assert RetryAfter.at(instant).due(instant.timestamp() + 5) == instant.timestamp() + 5
    with pytest.raises(ValueError, match="time zone"):
        RetryAfter.at(instant.replace(tzinfo=None))


async def test_an_action_can_be_tried_out() -> None:
    """Its result as a client reads it, and everything that it reported."""
    progress: list[Progress] = []

    @action("resize")
    async def resize(data: Resize, context: Context) -> Any:
        await context.progress(0.5, "x" * 1000)
        context.report_progress(1)
        return data.size, context.attempt, context.cancelled

    result = await run_action(resize, {"size": {"width": 3}}, attempt=2, progress=progress)

    assert result == [{"width": 3, "height": 1}, 2, False]
    assert progress == [Progress(0.5, "x" * 500), Progress(1)]


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_what_an_action_raises_in_a_trial_is_raised(blocking: bool) -> None:
    """As it is, so that a test can expect it; data that does not fit, and a result that is none, too."""

    @action("fail")
    async def fail_async(data: dict[str, Any], context: Context) -> object:
        return _raise_if(context)

    @action("fail")
    def fail_blocking(data: dict[str, Any], context: Context) -> object:
        return _raise_if(context)

    fail = fail_blocking if blocking else fail_async
    with pytest.raises(KeyError):
        await run_action(fail, cancelled=True)
    with pytest.raises(Fail, match="not JSON"):
        await run_action(fail)
    with pytest.raises(InvalidData):
        await run_action(action("resize")(_resized), {"size": 3})


async def test_a_handler_for_a_process_is_tried_out_with_what_it_has_there() -> None:
    """No progress, no logger: a clear error instead."""
    with pytest.raises(NotInAProcess, match="neither log nor report progress"):
        await run_action(action("report", process=True)(_reporting))


def _raise_if(context: Context) -> object:
    if context.cancelled:
        raise KeyError("gone")
    return object()


def _resized(data: Resize) -> object:
    return data


def _reporting(data: dict[str, Any], context: Context) -> None:
    context.report_progress(0.5)


def test_a_registry_finds_an_action_by_its_name() -> None:
    """And answers the fallback for every name that is not there."""
    fallback, plain = _action("any other"), _action("plain")
    registry = Registry(fallback, [plain])

    assert registry.find("plain") is plain
    assert registry.find("Plain") is fallback
    assert registry.find("any other") is fallback
    assert Registry(None, [plain]).find("Plain") is None


def test_two_actions_of_one_name_are_refused() -> None:
    """Nobody could say which of them a task means."""
    registry = Registry(_action("any other"), [_action("plain")])

    with pytest.raises(DuplicateAction, match="two handlers claim the action 'plain'"):
        registry.add(_action("plain"))


def test_the_same_action_twice_is_harmless() -> None:
    """A package may be found in two ways."""
    plain = _action("plain")
    registry = Registry(_action("any other"), [plain, plain])

    registry.add(plain)

    assert registry.find("plain") is plain


def test_a_registry_lists_its_names() -> None:
    """Sorted, without the fallback."""
    registry = Registry(_action("any other"), [_action("b"), _action("a")])

    assert registry.names == ["a", "b"]


def test_a_module_has_the_actions_that_it_defines_or_imports() -> None:
    """And nothing else of it is taken."""
    module = ModuleType("actions_of_a_user")
    one = _action("one")
    vars(module).update(one=one, number=1, Action=Action, helper=_one)

    assert actions_in(module) == [one]


def _one(data: dict[str, Any]) -> Any:
    return data


def _action(name: str) -> Action:
    return action(name)(_one)


def _refusal(data: dict[str, Any]) -> str:
    @action("resize")
    def resize(data: Resize) -> Any:
        return data

    with pytest.raises(InvalidData) as refusal:
        resize.arguments(data, CONTEXT)
    assert refusal.value.__cause__ is None
    return str(refusal.value)
