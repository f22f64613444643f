"""Schedules: what a client asks for again and again, and when its next time comes. Pure functions of now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, model_validator

from taskqueue.clock import milliseconds
from taskqueue.errors import InvalidRequest
from taskqueue.requests import MAX_DELAY_SECONDS, WorkRequest

MAX_EXPRESSION_CHARACTERS: Final = 200
MISSED_AFTER: Final = 60_000
"""A tick that nobody was there for within so many ms was missed."""

_STORED_AS_OPTIONS: Final = ("timeout", "max_attempts", "priority", "tags")


@dataclass(frozen=True)
class Recurrence:
    """When: by a cron expression in a time zone, or every `interval` ms from `anchor` (ms) on.

    A cron expression is read as Debian's cron reads it, so that a change of the clocks neither loses a daily tick nor
    doubles it: what falls into the hour that is left out comes right after it (cron(8), "daylight saving time").
    """

    cron: str | None
    interval: int | None
    timezone: str
    anchor: int

    def next_after(self, instant: int) -> int | None:
        """The first tick after `instant` (ms); None where there will never be one. Raises InvalidRequest."""
        if self.interval is not None:
            return self.anchor + ((instant - self.anchor) // self.interval + 1) * self.interval
        try:
            since = datetime.fromtimestamp(instant / 1000, UTC).astimezone(_zone(self.timezone))
            # In the hour that is repeated, what comes next by the clock on the wall may be past.
            found = CronSim(self.cron or "", since)
            tick = next((each for each in found if milliseconds(each.timestamp()) > instant), None)
        except CronSimError as error:
            raise InvalidRequest(f"cron {self.cron!r}: {error}") from error
        return None if tick is None else milliseconds(tick.timestamp())


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(f"timezone {name!r} is not known: it must be a name such as Europe/Berlin") from error


class ScheduleRequest(WorkRequest):
    """The body of `POST /schedules`. `interval` is in seconds."""

    cron: str | None = Field(default=None, min_length=1, max_length=MAX_EXPRESSION_CHARACTERS)
    interval: float | None = Field(default=None, ge=1, le=MAX_DELAY_SECONDS)
    timezone: str = Field(default="UTC", min_length=1, max_length=MAX_EXPRESSION_CHARACTERS)
    missed: Literal["run", "skip"] = "run"
    paused: bool = False

    @model_validator(mode="after")
    def _recurs_in_one_way(self) -> Self:
        if (self.cron is None) == (self.interval is None):
            raise ValueError("either cron or interval is required, and not both")
        return self

    def recurrence(self, anchor: int) -> Recurrence:
        """When it recurs, if it was made at `anchor` (ms)."""
        interval = None if self.interval is None else milliseconds(self.interval)
        return Recurrence(self.cron, interval, self.timezone, anchor)

    def check_timezone(self) -> None:
        """Raises InvalidRequest for one that is not known: an interval does without, but may become a cron one day."""
        _zone(self.timezone)

    def first_after(self, now: int, anchor: int) -> int | None:
        """Its first tick after `now` (ms), None while it is paused. Raises InvalidRequest where there will be none."""
        tick = self.recurrence(anchor).next_after(now)
        if tick is None:
            raise InvalidRequest(f"cron {self.cron!r} never comes true")
        return None if self.paused else tick

    def stored_options(self) -> dict[str, Any]:
        """What is kept of it as JSON beside its own columns."""
        return self.model_dump(include=set(_STORED_AS_OPTIONS), exclude_defaults=True)


class Schedule(ScheduleRequest):
    """A schedule as a client reads it. Instants are in whole Unix seconds."""

    id: str
    created_at: int
    next_at: int | None
    last_at: int | None
    last_task_id: str | None

    def changed(self, changes: Mapping[str, Any]) -> ScheduleRequest:
        """What it asks for with `changes`. Raises InvalidRequest where that will not do."""
        members = self.model_dump(include=set(ScheduleRequest.model_fields))
        for one, other in (("cron", "interval"), ("interval", "cron")):
            if changes.get(one) is not None and other not in changes:
                members[other] = None
        return ScheduleRequest.of({**members, **changes})


def makes_task(recurrence: Recurrence, tick: int, now: int, missed: Literal["run", "skip"]) -> bool:
    """Whether at `now` (ms) there is a task to make, if the first tick that nobody has seen to was at `tick`.

    One task at most, however many ticks were missed.
    """
    if missed == "run" or now - tick <= MISSED_AFTER:
        return True
    latest = recurrence.next_after(now - MISSED_AFTER - 1)
    return latest is not None and latest <= now
