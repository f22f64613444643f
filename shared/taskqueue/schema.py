"""The wire contract: what travels through the broker, and what a client reads back; `requests` has what it posts."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from taskqueue import jsontext
from taskqueue.errors import InvalidRequest, UnreadableMessage

MESSAGE_VERSION: Final = 1
MAX_ACTION_CHARACTERS: Final = 200
MAX_ID_CHARACTERS: Final = 200
MAX_MESSAGE_BYTES: Final = 5 * 1024 * 1024
"""More than any request of 1 MiB becomes when it is written anew: 1e15 has four characters, and its value eighteen."""


NORMAL: Final = 0
HIGH: Final = 5
"""The two priorities that take effect: a quorum queue knows no more (rabbitmq.com/docs/quorum-queues#priorities)."""

PRIORITIES: Final = (HIGH, NORMAL)

MAX_INSTANT: Final = 2**53
MAX_ATTEMPT: Final = 2**31


class TaskStatus(StrEnum):
    """Where a task stands; `docs/adr/0001` tells what each of the six is for."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


LEGAL_TRANSITIONS: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = MappingProxyType(
    {
        # A worker may be faster than the dispatcher's note that the broker has confirmed: pending -> running.
        TaskStatus.PENDING: frozenset({TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.CANCELLED}),
        TaskStatus.QUEUED: frozenset({TaskStatus.RUNNING, TaskStatus.PENDING, TaskStatus.CANCELLED}),
        TaskStatus.RUNNING: frozenset(
            {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PENDING}
        ),
        TaskStatus.COMPLETED: frozenset(),
        # By hand alone, and as a task that has all its attempts before it.
        TaskStatus.FAILED: frozenset({TaskStatus.PENDING}),
        TaskStatus.CANCELLED: frozenset({TaskStatus.PENDING}),
    }
)


FINAL: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
"""What a task stays at, unless somebody has it tried again by hand."""


def sources_of(target: TaskStatus) -> tuple[TaskStatus, ...]:
    """The statuses from which a task may go to `target`."""
    return tuple(source for source, targets in LEGAL_TRANSITIONS.items() if target in targets)


class Frozen(BaseModel):
    """A record that is checked when it is made, and stays as it is."""

    model_config = ConfigDict(frozen=True)


class TaskOptions(Frozen):
    """What a client may ask for beside action and data. Instants and `timeout` are in milliseconds."""

    priority: int = NORMAL
    timeout: int | None = None
    max_attempts: int | None = None
    run_at: int | None = None
    expires_at: int | None = None
    tags: tuple[str, ...] = ()
    traceparent: str | None = None


NO_OPTIONS: Final = TaskOptions()


class TaskPayload(Frozen):
    """What a task is asked to do; written once, never changed. `created_at` is in whole Unix seconds."""

    id: str
    action: str
    data: dict[str, Any]
    created_at: int


class TaskMessage(Frozen):
    """What travels through the broker: "this task is ready for its next attempt".

    `attempt` is the number of attempts before this one; a claim must match it, so each message starts a task once at
    most. `dispatched_at` (ms) orders messages by age, within their `priority`. `alone` asks a worker to run it beside
    no other. Other producers need to send only `id` and `action`: what they send is not `recorded` before its claim.
    """

    v: int = MESSAGE_VERSION
    id: str = Field(min_length=1, max_length=MAX_ID_CHARACTERS)
    action: str = Field(min_length=1, max_length=MAX_ACTION_CHARACTERS)
    data: dict[str, Any] = Field(default_factory=dict)
    created_at: int | None = Field(default=None, ge=0, le=MAX_INSTANT)
    attempt: int = Field(default=0, ge=0, le=MAX_ATTEMPT)
    dispatched_at: int = Field(default=0, ge=0, le=MAX_INSTANT)
    priority: int = Field(default=NORMAL, ge=0, le=9)
    alone: bool = False

    @property
    def recorded(self) -> bool:
        """Whether a dispatcher of ours made it, from a row of the store."""
        return self.dispatched_at > 0

    @classmethod
    def of(
        cls, payload: TaskPayload, attempt: int, dispatched_at: int, *, priority: int = NORMAL, alone: bool = False
    ) -> "TaskMessage":
        """The message that hands out `payload` after `attempt` attempts, at the instant `dispatched_at` (ms)."""
        return cls(**dict(payload), attempt=attempt, dispatched_at=dispatched_at, priority=priority, alone=alone)

    def payload(self, created_at: int) -> TaskPayload:
        """The payload, created at `created_at` (s) where the producer did not say."""
        created = self.created_at if self.created_at is not None else created_at
        return TaskPayload(id=self.id, action=self.action, data=self.data, created_at=created)

    def encode(self) -> bytes:
        """The bytes for the broker."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, body: bytes) -> "TaskMessage":
        """The message in `body`. Raises UnreadableMessage with the reason."""
        if len(body) > MAX_MESSAGE_BYTES:
            raise UnreadableMessage(f"the message is larger than {MAX_MESSAGE_BYTES} bytes")
        try:
            members = decode_object(body)
        except InvalidRequest as error:
            raise UnreadableMessage(str(error)) from error
        version = members.get("v", MESSAGE_VERSION)
        if version != MESSAGE_VERSION:
            raise UnreadableMessage(f"message version {version!r:.20} is not known, only {MESSAGE_VERSION} is")
        try:
            return cls.model_validate(members, strict=True)
        except ValidationError as error:
            raise UnreadableMessage(first_fault(error)) from error


class Attempt(Frozen):
    """One attempt of a task as a client reads it. Instants in Unix milliseconds; one that runs has no outcome yet."""

    attempt: int
    started_at: int | None
    ended_at: int | None = None
    worker: str | None
    outcome: str | None = None
    error: str | None = None


class Timings(Frozen):
    """Milliseconds: from when a task could begin to when it did, and what its ended attempts took together."""

    waited: int | None
    ran: int | None


class Task(Frozen):
    """A task as a client reads it. Times are in whole Unix seconds, but for those of attempts; `timeout` in seconds."""

    id: str
    payload: Json[dict[str, Any]]
    status: TaskStatus
    result: Json[Any] | None
    created_at: int
    processed_at: int | None
    attempts: int
    error: str | None
    action: str
    priority: int
    tags: Json[list[str]]
    run_at: int | None
    expires_at: int | None
    timeout: float | None
    max_attempts: int | None
    progress: Json[Any] | None
    schedule_id: str | None
    history: list[Attempt]
    timings: Timings


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidRequest with a sentence for the client."""
    try:
        value = jsontext.decode(body)
    except jsontext.InvalidJSON as error:
        raise InvalidRequest("invalid JSON") from error
    except jsontext.NestedTooDeep as error:
        raise InvalidRequest(f"the body must not be nested more than {jsontext.MAX_NESTING} levels deep") from error
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


_SENTENCES: Final = {
    "string_type": "{member} must be a string",
    "string_too_long": "{member} must be at most {max_length} characters long",
    "string_too_short": "{member} must not be empty",
    "dict_type": "{member} must be an object",
    "missing": "{member} required",
    "float_type": "{member} must be a number",
    "int_type": "{member} must be a whole number",
    "greater_than": "{member} must be greater than {gt:.15g}",
    "greater_than_equal": "{member} must be at least {ge:.15g}",
    "less_than_equal": "{member} must be at most {le:.15g}",
    "list_type": "{member} must be a list",
    "bool_type": "{member} must be true or false",
    "literal_error": "{member} must be {expected}",
    "too_long": "{member} must have at most {max_length} members",
}


def first_fault(error: ValidationError) -> str:
    """The first of the faults, as a sentence for the client."""
    fault = error.errors(include_url=False, include_input=False)[0]
    member = ".".join(str(part) for part in fault["loc"])
    sentence = _SENTENCES.get(fault["type"])
    if sentence is None:
        told = fault["msg"].removeprefix("Value error, ")
        return f"{member} {told}" if member else told
    return sentence.format(member=member, **fault.get("ctx", {}))
