"""What user code sees: from a function to an action, and from actions to a registry."""

from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr, model_validator

from taskqueue.actions import Action, Context, InvalidData, action
from taskqueue.actions.contract import Handler
from taskqueue.actions.registry import DuplicateAction, Registry, actions_in

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


def test_a_registry_finds_an_action_by_its_name() -> None:
    """And answers the fallback for every name that is not there."""
    fallback, plain = _action("any other"), _action("plain")
    registry = Registry(fallback, [plain])

    assert registry.find("plain") is plain
    assert registry.find("Plain") is fallback
    assert registry.find("any other") is fallback


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
