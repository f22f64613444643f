"""From a function to an action. The decorator registers nothing: importing a module of actions has no effect."""

import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints

from pydantic import BaseModel

from taskqueue.actions.contract import Action, Handler
from taskqueue.requests import MAX_TIMEOUT_SECONDS
from taskqueue.retry import Backoff
from taskqueue.schema import MAX_ACTION_CHARACTERS

_DATA_ALONE: Final = 1
_DATA_AND_CONTEXT: Final = 2
_LEAST_TIMEOUT: Final = 0.001
_MOST_ATTEMPTS: Final = 1000
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def action(
    name: str,
    *,
    timeout: float | None = None,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    process: bool = False,
) -> Callable[[Handler], Action]:
    """Makes the decorated function, `async def` or `def`, the handler of the action `name`.

    Its first parameter takes the task's data: a dict, or a pydantic model if it is annotated with one. A second one,
    if it has it, takes the Context. What it returns, JSON or a pydantic model, is the task's result.

    `timeout` (s) and `max_attempts` hold for tasks that do not say; `backoff` is the time between attempts. `process`
    runs a plain function that computes in a process of its own, which imports its module and finds it there by name.
    Raises TypeError for a function of another shape, ValueError for a name or a limit that no task can have.
    """
    _check_limits(name, timeout, max_attempts)

    def decorate(handler: Handler) -> Action:
        parameters = list(inspect.signature(handler).parameters.values())
        by_position = all(parameter.kind in _BY_POSITION for parameter in parameters)
        if not by_position or len(parameters) not in (_DATA_ALONE, _DATA_AND_CONTEXT):
            raise TypeError(f"the handler of {name!r} must take the data, and may take the context, and nothing else")
        if process:
            _check_process(name, handler)
        model = _model(get_type_hints(handler).get(parameters[0].name))
        wants_context = len(parameters) == _DATA_AND_CONTEXT
        return Action(name, handler, model, wants_context, timeout, max_attempts, backoff, process)

    return decorate


def _check_limits(name: str, timeout: float | None, max_attempts: int | None) -> None:
    if not 0 < len(name) <= MAX_ACTION_CHARACTERS:
        raise ValueError(f"the name of an action has 1 to {MAX_ACTION_CHARACTERS} characters")
    if name.encode(errors="replace").decode() != name:
        raise ValueError(f"the name {name!r} of an action cannot be written in UTF-8")
    if timeout is not None and not _LEAST_TIMEOUT <= timeout <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"the timeout of {name!r} must be from {_LEAST_TIMEOUT} to {MAX_TIMEOUT_SECONDS} s")
    if max_attempts is not None and not 1 <= max_attempts <= _MOST_ATTEMPTS:
        raise ValueError(f"the max_attempts of {name!r} must be from 1 to {_MOST_ATTEMPTS}")


def _check_process(name: str, handler: Handler) -> None:
    if inspect.iscoroutinefunction(handler):
        raise TypeError(f"the handler of {name!r} asks for a process, and must be a plain function")
    if "<" in getattr(handler, "__qualname__", "<") or handler.__module__ == "__main__":
        raise TypeError(f"the handler of {name!r} asks for a process, and must be a function of a module to import")


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None
