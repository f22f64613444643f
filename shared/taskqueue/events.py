"""The log: every event this system reports, its level and its sentence, in one place."""

import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from structlog.dev import plain_traceback
from structlog.tracebacks import ExceptionDictTransformer

LogFormat = Literal["json", "console"]


@dataclass(frozen=True)
class LogEvent:
    """A thing worth telling an operator: a name for machines, a sentence for people."""

    name: str
    level: int
    sentence: str


STARTED: Final = LogEvent("started", logging.INFO, "started")
SETTING_UNKNOWN: Final = LogEvent("setting_unknown", logging.WARNING, "no service reads this variable: a slip?")
STOPPING: Final = LogEvent("stopping", logging.INFO, "was asked to stop, and finishes what it began")
STOPPED: Final = LogEvent("stopped", logging.INFO, "stopped")
FAILPOINTS_ARMED: Final = LogEvent(
    "failpoints_armed", logging.ERROR, "will be killed, stalled or made to fail, for a test"
)
START_REFUSED: Final = LogEvent("start_refused", logging.ERROR, "refused to start")
CRASHED: Final = LogEvent("crashed", logging.CRITICAL, "a part of this process failed; it ends to be started again")

REQUEST_SERVED: Final = LogEvent("request_served", logging.INFO, "served a request")
REQUEST_FAILED: Final = LogEvent("request_failed", logging.ERROR, "could not serve a request")
DOORS_OPEN: Final = LogEvent(
    "doors_open", logging.WARNING, "NO KEYS ARE ASKED FOR: whoever reaches this address may do everything"
)
KEYS_READ: Final = LogEvent("keys_read", logging.INFO, "the file of keys has changed, and holds from now on")
KEYS_UNUSABLE: Final = LogEvent(
    "keys_unusable", logging.ERROR, "the file of keys cannot be used; what it said before holds"
)

BROKER_CONNECTED: Final = LogEvent("broker_connected", logging.INFO, "connected to the broker")
BROKER_LOST: Final = LogEvent("broker_lost", logging.WARNING, "lost the broker, and connects again")
WITHOUT_BROKER: Final = LogEvent(
    "without_broker", logging.WARNING, "the broker is away; this worker takes tasks straight from the database"
)
CONSUMERS_DEAF: Final = LogEvent("consumers_deaf", logging.WARNING, "messages are ready but none arrives")
PUBLISH_FAILED: Final = LogEvent("publish_failed", logging.WARNING, "the broker did not take messages; the sweep will")

GROUP_PARTED: Final = LogEvent(
    "group_parted", logging.WARNING, "the database refused a group of writes; each is tried alone"
)
RESUMED: Final = LogEvent("resumed", logging.INFO, "took up what the last process left unfinished")
SWEPT: Final = LogEvent("swept", logging.INFO, "tasks were due and are handed out again")
CLOCK_JUMPED: Final = LogEvent(
    "clock_jumped", logging.WARNING, "the clock jumped ahead; leases end by what is seen of them, no more by the clock"
)
SWEEP_FAILED: Final = LogEvent("sweep_failed", logging.WARNING, "a sweep failed; the next one tries again")
ROW_DAMAGED: Final = LogEvent("row_damaged", logging.ERROR, "a row of the database is damaged, and is left aside")
SCHEDULED: Final = LogEvent("scheduled", logging.INFO, "schedules made tasks")
SCHEDULE_STOPPED: Final = LogEvent("schedule_stopped", logging.ERROR, "a schedule cannot be read, and stops")
CATALOGUE_FAILED: Final = LogEvent(
    "catalogue_failed",
    logging.WARNING,
    "what workers offer cannot be read; what was known holds, and it is tried again",
)
FEED_FAILED: Final = LogEvent("feed_failed", logging.WARNING, "what becomes of tasks cannot be read; tried again")
WORKER_LOST: Final = LogEvent("worker_lost", logging.ERROR, "tasks lost their worker once too often, and failed")
MESSAGES_LOST: Final = LogEvent("messages_lost", logging.WARNING, "the broker no longer holds these tasks' messages")
TASKS_RAISED: Final = LogEvent("tasks_raised", logging.INFO, "high tasks held normal ones back, which are high now")
REMOVED_OLD: Final = LogEvent("removed_old", logging.INFO, "removed what is older than it is kept")
RETENTION_FAILED: Final = LogEvent("retention_failed", logging.WARNING, "could not remove what is old; tries again")

TASK_COMPLETED: Final = LogEvent("task_completed", logging.INFO, "a task completed")
TASK_RETRIED: Final = LogEvent("task_retried", logging.WARNING, "an attempt failed and will be tried again")
TASK_FAILED: Final = LogEvent("task_failed", logging.ERROR, "a task failed for good")
TASK_CANCELLED: Final = LogEvent("task_cancelled", logging.INFO, "a task was called off while it was running")
TASK_HANDED_BACK: Final = LogEvent("task_handed_back", logging.INFO, "a task was handed back at shutdown")
LEASE_LOST: Final = LogEvent("lease_lost", logging.WARNING, "a task was taken by another attempt; nothing recorded")
SETTLE_POSTPONED: Final = LogEvent("settle_postponed", logging.WARNING, "an outcome could not be recorded yet")
CLAIM_POSTPONED: Final = LogEvent("claim_postponed", logging.WARNING, "a task could not be claimed yet")
LOOP_BLOCKED: Final = LogEvent(
    "loop_blocked", logging.WARNING, "this blocks the event loop, and no lease is renewed; is it an async handler?"
)
EXECUTION_BROKE: Final = LogEvent("execution_broke", logging.ERROR, "a task's execution failed by our own fault")
MESSAGE_BURIED: Final = LogEvent(
    "message_buried", logging.ERROR, "a message can never be taken up; it goes to tasks.dead"
)

SCHEMA_MADE: Final = LogEvent("schema_made", logging.INFO, "the schema is at its newest revision")
SCHEMA_MISSING: Final = LogEvent("schema_missing", logging.WARNING, "the schema is not at its newest revision")


_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger()

# Without the values of local variables, which may be secrets.
_TRACEBACKS: Final = ExceptionDictTransformer(show_locals=False, max_frames=20)


def emit(event: LogEvent, *, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Writes `event` to the log with those of its `fields` that have a value; none is a part of the sentence.

    Never raises: a full disk under the log must not stop the work.
    """
    known = {name: value for name, value in {**fields, "exc_info": exc_info}.items() if value is not None}
    with suppress(OSError, ValueError):
        _log.log(event.level, event.sentence, name=event.name, **known)


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Sends this process's log, other libraries' records included, to standard error in one format.

    For a `__main__` to call, once.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final = _rendering(log_format)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    # Our own events do without the standard library's records, which cost several times as much as the line itself.
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _listen_to_libraries(handler, level)


def _rendering(log_format: LogFormat) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)]


def _listen_to_libraries(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("asyncio", "alembic"):
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
    # Every failure to connect, which BROKER_LOST tells once.
    for noisy in ("aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
