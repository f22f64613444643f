"""An action, and how its handler says what is to become of a task that it cannot complete now."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, PydanticInvalidForJsonSchema, ValidationError

from taskqueue.actions.context import Context
from taskqueue.requests import MAX_DELAY_SECONDS
from taskqueue.retry import Backoff

Handler = Callable[..., Awaitable[Any]] | Callable[..., Any]


class Fail(Exception):
    """No other attempt can do better: the task fails for good, with this exception's text as its error."""


class InvalidData(Fail):
    """The data of this task will never do."""


class RetryAfter(Exception):
    """Another attempt is wanted at a stated time: so many seconds from now, or at an instant (Unix seconds).

    It counts as an attempt; after the last one that the task has, it has failed.
    """

    def __init__(self, seconds: float, message: str = "the handler asked for another attempt") -> None:
        super().__init__(message)
        self.seconds: float | None = _checked(seconds)
        self.instant: float | None = None

    @classmethod
    def at(cls, instant: datetime, message: str = "the handler asked for another attempt") -> "RetryAfter":
        """At an instant, which must have a time zone; at once where it has passed."""
        if instant.tzinfo is None:
            raise ValueError("the instant of another attempt must have a time zone")
        wish = cls(0, message)
        wish.seconds, wish.instant = None, instant.timestamp()
        return wish

    def due(self, now: float) -> float:
        """When the next attempt is to begin, in Unix seconds."""
        return now + self.seconds if self.seconds is not None else max(now, self.instant or now)


@dataclass(frozen=True)
class Action:
    """A kind of task: its name, and the handler that performs it.

    The handler takes the task's data (as `model`, where it has one, else as a dict), and the context if it asks.
    `timeout` (s), `max_attempts` and `backoff` hold where the task itself says nothing, and go before the settings.
    """

    name: str
    handler: Handler
    model: type[BaseModel] | None
    wants_context: bool
    timeout: float | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    process: bool = False

    @property
    def blocking(self) -> bool:
        """Whether the handler is a plain function, which must not run on the event loop."""
        return not inspect.iscoroutinefunction(self.handler)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the data. A dict, and a model that JSON Schema cannot express, take any object."""
        try:
            return {"type": "object"} if self.model is None else self.model.model_json_schema()
        except PydanticInvalidForJsonSchema:
            return {"type": "object"}

    @property
    def description(self) -> str:
        """What the handler's docstring says."""
        return inspect.getdoc(self.handler) or ""

    def arguments(self, data: dict[str, Any], context: Context) -> tuple[Any, ...]:
        """What to call the handler with. Raises InvalidData where `data` does not fit the model."""
        argument = data if self.model is None else _validated(self.model, data)
        return (argument, context) if self.wants_context else (argument,)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the handler, as if it were not decorated."""
        return self.handler(*arguments)


def _checked(seconds: float) -> float:
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise ValueError(f"the seconds until another attempt are from 0 to {MAX_DELAY_SECONDS}")
    return seconds


def _validated(model: type[BaseModel], data: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidData("; ".join(_sentence(fault) for fault in faults)) from None


def _sentence(fault: Any) -> str:
    place = ".".join(str(part) for part in ("data", *fault["loc"]))
    return f"{place}: {fault['msg']}"
