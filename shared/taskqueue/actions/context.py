"""What a handler may know of its attempt, and tell of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

MAX_MESSAGE_CHARACTERS: Final = 500


class NotInAProcess(RuntimeError):
    """A handler in a process of its own has no way to its worker: it can neither log nor report progress."""


@dataclass(frozen=True)
class Progress:
    """How far a handler is: a fraction from 0 to 1, and a sentence (cut at 500 characters).

    Both are made what JSON can hold here, in the handler's own call: numbers of other libraries, and any text.
    """

    fraction: float
    message: str | None = None

    def __post_init__(self) -> None:
        """Refuses a fraction that is none."""
        object.__setattr__(self, "fraction", float(self.fraction))
        if not 0 <= self.fraction <= 1:
            raise ValueError("progress is a fraction from 0 to 1")
        if self.message is not None:
            cut = str(self.message)[:MAX_MESSAGE_CHARACTERS]
            object.__setattr__(self, "message", cut.encode(errors="replace").decode())


class Link:
    """Between a handler and whoever called it, for use from any thread: progress goes one way, "end!" the other."""

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self.interrupted = False

    def report(self, progress: Progress) -> None:
        """Takes what the handler reports; only the latest counts."""
        self.latest = progress


@dataclass(frozen=True)
class Context:
    """What a handler may want to know of its attempt. `attempt` counts from 1; `deadline` is in Unix seconds.

    `task_id` is fit to be an idempotency key towards other systems: it is the same in every attempt. With `attempt` it
    names one attempt, for systems that can tell an old one from a new one.

    A handler that runs in a process has no `link`: it gets the task's id, the attempt and the deadline alone.
    """

    task_id: str
    attempt: int
    deadline: float
    action: str = ""
    link: Link | None = field(default_factory=Link, repr=False, compare=False)

    @property
    def logger(self) -> FilteringBoundLogger:
        """A logger whose lines name the task, its action and the attempt. Raises NotInAProcess in a process."""
        self._linked()
        logger: FilteringBoundLogger = structlog.get_logger()
        return logger.bind(task_id=self.task_id, action=self.action, attempt=self.attempt)

    @property
    def cancelled(self) -> bool:
        """Whether the handler must end: the task was cancelled or timed out, or its worker stops.

        For blocking handlers, which nothing can interrupt, to look at now and then. An async handler is cancelled at
        its next `await`, and a process is ended, without being asked.
        """
        return self.link is not None and self.link.interrupted

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """Reports how far an async handler is, which `GET /tasks/{id}` shows. May be called as often as it likes.

        A few reports a second are kept, and the last one always. Raises ValueError unless 0 <= fraction <= 1.
        """
        self.report_progress(fraction, message)
        await asyncio.sleep(0)  # a handler that computes and reports lets the others go on, and can be cancelled here

    def report_progress(self, fraction: float, message: str | None = None) -> None:
        """The same for a blocking handler, from any thread. Raises NotInAProcess in a process."""
        self._linked().report(Progress(fraction, message))

    def _linked(self) -> Link:
        if self.link is None:
            raise NotInAProcess(" ".join((NotInAProcess.__doc__ or "").split()))
        return self.link
