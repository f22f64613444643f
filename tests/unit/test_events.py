"""The log: one event, one line, whatever users write into it."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from taskqueue import events
from taskqueue.events import LogEvent, configure_logging, emit

NASTY = 'a\r\n{"level": "error"}\n\x1b[2J\x00\x07\x85\u2028\u2029"\\ \U0001f600 \ud800'


def test_an_event_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It has a name for machines, a sentence for people, a level, an instant, and those fields that have a value."""
    configure_logging("INFO", "json")

    emit(events.TASK_RETRIED, attempt=0, error=None)

    (entry,) = _entries(capsys)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "name": "task_retried",
        "event": "an attempt failed and will be tried again",
        "level": "warning",
        "attempt": 0,
    }


def test_text_of_users_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends, escape sequences and line separators of any kind neither end the line nor reach a terminal."""
    configure_logging("INFO", "json")

    emit(events.TASK_FAILED, error=NASTY, data={NASTY: [NASTY]})

    (entry,) = _entries(capsys)
    assert entry["error"] == NASTY
    assert entry["data"] == {NASTY: [NASTY]}


def test_text_of_users_stays_within_its_line_in_other_libraries_records(capsys: pytest.CaptureFixture[str]) -> None:
    """Records of the standard library are written in the same form, by the same rules."""
    configure_logging("INFO", "json")

    logging.getLogger("elsewhere").warning("lost %s", NASTY)

    (entry,) = _entries(capsys)
    assert entry["event"] == f"lost {NASTY}"
    assert entry["level"] == "warning"
    assert entry["timestamp"]


def test_what_is_bound_to_the_context_is_in_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    """A task's id is found in its events and in what libraries say meanwhile."""
    configure_logging("INFO", "json")

    with structlog.contextvars.bound_contextvars(task_id="a\nb"):
        emit(events.TASK_COMPLETED)
        logging.getLogger("elsewhere").error("broke")
    emit(events.STOPPED)

    assert [entry.get("task_id") for entry in _entries(capsys)] == ["a\nb", "a\nb", None]


def test_an_exception_is_in_its_events_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With type, text and stack, as data."""
    configure_logging("INFO", "json")

    emit(events.CRASHED, exc_info=_raised(ExceptionGroup("both", [ValueError(NASTY), OSError()])))

    (entry,) = _entries(capsys)
    (shown,) = entry["exception"]
    assert shown["exc_type"] == "ExceptionGroup"
    assert shown["exceptions"][0][0]["exc_value"] == NASTY


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_shows_no_local_variable(capsys: pytest.CaptureFixture[str], log_format: events.LogFormat) -> None:
    """The stacks of this system hold passwords and users' data."""
    configure_logging("INFO", log_format)

    emit(events.CRASHED, exc_info=_raised(ValueError("wrong")))
    logging.getLogger("elsewhere").error("broke", exc_info=_raised(ValueError("wrong")))

    log = capsys.readouterr().err
    assert log.count("ValueError") >= 2
    assert "hunter2" not in log


def test_values_that_are_not_json_are_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that fails would hide what it was about."""
    configure_logging("INFO", "json")

    emit(events.SWEPT, error=ValueError("x"), kind=ValueError, raw=b"\xff", number=float("nan"))

    assert "ValueError" in capsys.readouterr().err


@pytest.mark.parametrize(("level", "written"), [("DEBUG", 4), ("INFO", 4), ("WARNING", 3), ("ERROR", 2)])
def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str], level: str, written: int) -> None:
    """One level holds for our events and for other libraries' records."""
    configure_logging(level, "json")

    emit(events.STARTED)
    emit(events.SWEEP_FAILED)
    emit(events.TASK_FAILED)
    logging.getLogger("elsewhere").error("broke")

    assert len(_entries(capsys)) == written


def test_libraries_that_repeat_what_we_report_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Below WARNING they add nothing."""
    configure_logging("DEBUG", "json")

    for chatty in ("aiormq.connection", "aio_pika", "asyncio", "alembic.runtime"):
        logging.getLogger(chatty).info("connected")

    assert _entries(capsys) == []


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A process logs before its settings are known, and again as they say."""
    configure_logging("INFO", "console")
    configure_logging("INFO", "json")

    emit(events.STARTED)

    assert len(_entries(capsys)) == 1


def test_the_console_shows_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """People read sentences and fields, one event a line, and nothing of a user's text reaches their terminal raw."""
    configure_logging("INFO", "console")

    emit(events.TASK_FAILED, error=NASTY)

    (line,) = capsys.readouterr().err.rstrip("\n").split("\n")
    assert events.TASK_FAILED.sentence in line
    assert "\x1b" not in line


def test_names_of_events_are_unique() -> None:
    """A machine tells events apart by their names."""
    known = [value for value in vars(events).values() if isinstance(value, LogEvent)]

    assert len({event.name for event in known}) == len(known)
    assert len({event.sentence for event in known}) == len(known)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test configures ends with it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in ("aiormq", "aio_pika", "asyncio", "alembic")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()


def _entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.isascii()
    return [json.loads(line) for line in written.err.splitlines()]


def _raised(error: Exception) -> Exception:
    password = "hunter2"
    try:
        raise error
    except type(error):
        assert password
        caught = sys.exception()
        assert caught is error
    return error


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the log, or a reader that went away, is not the end of the work."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("sys.stderr", Full())
    configure_logging("INFO", "json")

    emit(LogEvent("happened", logging.INFO, "something happened"), detail=1)
