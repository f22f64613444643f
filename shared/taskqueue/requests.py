"""What a client posts: one task, many, or what recurs; each refusal is a sentence for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import uuid4

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from taskqueue.clock import milliseconds
from taskqueue.errors import InvalidRequest
from taskqueue.schema import (
    HIGH,
    MAX_ACTION_CHARACTERS,
    NORMAL,
    Frozen,
    TaskOptions,
    TaskPayload,
    decode_object,
    first_fault,
)

MAX_BATCH: Final = 1_000
MAX_TAGS: Final = 20
MAX_TAG_CHARACTERS: Final = 100
MAX_ATTEMPTS_ASKED: Final = 1_000
MAX_TIMEOUT_SECONDS: Final = 86_400
MAX_DELAY_SECONDS: Final = 10 * 366 * 86_400


def instant(value: object) -> int:
    """The instant (ms) that an RFC 3339 text names. Raises ValueError with the rest of a sentence."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            moment.astimezone(UTC)  # an offset may lead out of the years 1 to 9999, where it cannot be shown
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be a time with its offset, such as 2026-01-31T12:00:00Z")
    return milliseconds(moment.timestamp())


Instant = Annotated[int, BeforeValidator(instant)]
Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG_CHARACTERS)]


class WorkRequest(Frozen):
    """What a client asks for, at once or by a schedule. Members that it does not know are left aside.

    `timeout` is in seconds.
    """

    action: str = Field(min_length=1, max_length=MAX_ACTION_CHARACTERS)
    data: dict[str, Any] = Field(default_factory=dict)
    timeout: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    max_attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS_ASKED)
    priority: int = Field(default=NORMAL, ge=0, le=9)
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The request in `body`. Raises InvalidRequest with a sentence for the client."""
        return cls.of(decode_object(body))

    @classmethod
    def of(cls, members: dict[str, Any]) -> Self:
        """The request that has these members. Raises InvalidRequest with a sentence for the client."""
        if members.get("action") in (None, ""):
            raise InvalidRequest("action required")
        try:
            return cls.model_validate(members, strict=True)
        except ValidationError as error:
            raise InvalidRequest(first_fault(error)) from error

    def payload(self, created_at: int) -> TaskPayload:
        """What a task of its own for this request is to do, under a new random id."""
        return TaskPayload(id=str(uuid4()), action=self.action, data=self.data, created_at=created_at)

    def base_options(self) -> TaskOptions:
        """The options that do not depend on the present instant."""
        return TaskOptions(
            priority=HIGH if self.priority >= HIGH else NORMAL,
            timeout=None if self.timeout is None else max(1, milliseconds(self.timeout)),
            max_attempts=self.max_attempts,
            tags=tuple(dict.fromkeys(self.tags)),
        )


class TaskRequest(WorkRequest):
    """The body of `POST /tasks`. `delay` is in seconds; `run_at` and `expires_at` are RFC 3339, and become ms."""

    delay: float | None = Field(default=None, ge=0, le=MAX_DELAY_SECONDS)
    run_at: Instant | None = None
    expires_at: Instant | None = None

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Self:
        if self.delay is not None and self.run_at is not None:
            raise ValueError("delay and run_at exclude each other")
        return self

    def options(self, now: int, traceparent: str | None = None) -> TaskOptions:
        """The options of a task that is accepted at `now` (ms). Raises InvalidRequest where it could never start."""
        run_at = self.run_at if self.delay is None else now + milliseconds(self.delay)
        if self.expires_at is not None and self.expires_at <= max(now, run_at or now):
            raise InvalidRequest("expires_at must be later than the time at which the task may start")
        timing = {
            "run_at": run_at if run_at is not None and run_at > now else None,
            "expires_at": self.expires_at,
            "traceparent": traceparent,
        }
        return self.base_options().model_copy(update=timing)


def parse_batch(body: bytes) -> Sequence[TaskRequest]:
    """The requests in the body of `POST /tasks/batch`, in order. Raises InvalidRequest, naming the first bad one."""
    items = decode_object(body).get("tasks")
    if not isinstance(items, list):
        raise InvalidRequest("tasks must be a list")
    if not 1 <= len(items) <= MAX_BATCH:
        raise InvalidRequest(f"tasks must have 1 to {MAX_BATCH} members")
    requests = []
    for index, item in enumerate(items):
        with in_batch(index):
            if not isinstance(item, dict):
                raise InvalidRequest("a task must be a JSON object")
            requests.append(TaskRequest.of(item))
    return requests


@contextmanager
def in_batch(index: int) -> Iterator[None]:
    """Whatever is wrong in this block is wrong with that task of a batch, and says so."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"tasks[{index}]: {error}") from error
