"""From a function to an action. The decorator registers nothing: importing a module of actions has no effect."""

import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints

from pydantic import BaseModel

from taskqueue.actions.contract import Action, Handler
from taskqueue.schema import MAX_ACTION_CHARACTERS

_DATA_ALONE: Final = 1
_DATA_AND_CONTEXT: Final = 2
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def action(name: str) -> Callable[[Handler], Action]:
    """Makes the decorated function, `async def` or `def`, the handler of the action `name`.

    Its first parameter takes the task's data: a dict, or a pydantic model if it is annotated with one. A second one,
    if it has it, takes the Context. What it returns, JSON or a pydantic model, is the task's result. Raises TypeError
    for a function of another shape, ValueError for a name that no task can have.
    """
    if not 0 < len(name) <= MAX_ACTION_CHARACTERS:
        raise ValueError(f"the name of an action has 1 to {MAX_ACTION_CHARACTERS} characters")

    def decorate(handler: Handler) -> Action:
        parameters = list(inspect.signature(handler).parameters.values())
        by_position = all(parameter.kind in _BY_POSITION for parameter in parameters)
        if not by_position or len(parameters) not in (_DATA_ALONE, _DATA_AND_CONTEXT):
            raise TypeError(f"the handler of {name!r} must take the data, and may take the context, and nothing else")
        hints = get_type_hints(handler)
        return Action(
            name, handler, _model(hints.get(parameters[0].name)), wants_context=len(parameters) == _DATA_AND_CONTEXT
        )

    return decorate


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None
