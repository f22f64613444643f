"""An action, the context it runs in, and how it says that a task can never succeed."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

Handler = Callable[..., Awaitable[Any]] | Callable[..., Any]


class InvalidData(Exception):
    """The data of this task will never do: the task fails at once, with this exception's text as its error."""


@dataclass(frozen=True)
class Context:
    """What a handler may want to know of its attempt. `attempt` counts from 1; `deadline` is in Unix seconds.

    `task_id` is fit to be an idempotency key towards other systems: it is the same in every attempt. With `attempt` it
    names one attempt, for systems that can tell an old one from a new one.
    """

    task_id: str
    attempt: int
    deadline: float


@dataclass(frozen=True)
class Action:
    """A kind of task: its name, and the handler that performs it.

    The handler takes the task's data (as `model`, where it has one, else as a dict), and the context if it asks.
    """

    name: str
    handler: Handler
    model: type[BaseModel] | None
    wants_context: bool

    @property
    def blocking(self) -> bool:
        """Whether the handler is a plain function, which must not run on the event loop."""
        return not inspect.iscoroutinefunction(self.handler)

    def arguments(self, data: dict[str, Any], context: Context) -> tuple[Any, ...]:
        """What to call the handler with. Raises InvalidData where `data` does not fit the model."""
        argument = data if self.model is None else _validated(self.model, data)
        return (argument, context) if self.wants_context else (argument,)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the handler, as if it were not decorated."""
        return self.handler(*arguments)


def _validated(model: type[BaseModel], data: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidData("; ".join(_sentence(fault) for fault in faults)) from None


def _sentence(fault: Any) -> str:
    place = ".".join(str(part) for part in ("data", *fault["loc"]))
    return f"{place}: {fault['msg']}"
