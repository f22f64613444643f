"""When a schedule ticks: cron expressions in their zone, intervals from their anchor, over changes of the clocks."""

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.errors import InvalidRequest
from taskqueue.schedule import MISSED_AFTER, Recurrence, ScheduleRequest, makes_task

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
HOUR = 3_600_000
DAY = 24 * HOUR


def ms(text: str) -> int:
    """The instant that an RFC 3339 text names."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def cron(expression: str, zone: str = "UTC") -> Recurrence:
    """A recurrence by cron."""
    return Recurrence(expression, None, zone, anchor=0)


def ticks(recurrence: Recurrence, since: int, count: int) -> list[int]:
    """The next ticks."""
    found = []
    instant: int | None = since
    for _ in range(count):
        assert instant is not None
        instant = recurrence.next_after(instant)
        assert instant is not None
        found.append(instant)
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "expected"),
    [
        ("* * * * *", "UTC", "2026-03-01T12:01:00+00:00"),
        ("0 9 * * 1-5", "Europe/Berlin", "2026-03-02T09:00:00+01:00"),
        ("30 4 1 1 *", "UTC", "2027-01-01T04:30:00+00:00"),
        ("0 0 * * *", "America/New_York", "2026-03-02T00:00:00-05:00"),
    ],
)
def test_a_cron_expression_is_read_in_its_zone(expression: str, zone: str, expected: str) -> None:
    """The next tick after noon of a Sunday."""
    assert cron(expression, zone).next_after(ms("2026-03-01T12:00:00+00:00")) == ms(expected)


@pytest.mark.parametrize(
    ("zone", "day", "ticks_of_day"),
    [
        ("Europe/Berlin", "2026-03-29", ["03:00:00+02:00"]),  # 02:30 does not exist
        ("Europe/Berlin", "2026-10-25", ["02:30:00+02:00"]),  # 02:30 comes twice
        ("America/New_York", "2026-03-08", ["03:00:00-04:00"]),
        ("America/New_York", "2026-11-01", ["02:30:00-05:00"]),
    ],
)
def test_a_daily_tick_comes_once_on_the_day_that_the_clocks_change(
    zone: str, day: str, ticks_of_day: list[str]
) -> None:
    """Neither lost in the hour that is left out nor doubled in the one that is repeated."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    end = ms((start + timedelta(days=1)).isoformat())
    found = [tick for tick in ticks(cron("30 2 * * *", zone), ms(start.isoformat()) - 1, 2) if tick < end]

    assert found == [ms(f"{day}T{tick}") for tick in ticks_of_day]


@given(
    expression=st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "15 2 * * 0", "0 0 29 2 *", "0 * * * *"]),
    zone=st.sampled_from(ZONES),
    since=st.integers(ms("2026-01-01T00:00:00+00:00"), ms("2027-01-01T00:00:00+00:00")),
)
def test_ticks_of_a_cron_expression_go_forward(expression: str, zone: str, since: int) -> None:
    """Each is later than the one before, and than the instant that was asked about."""
    assert all(earlier < later for earlier, later in pairwise([since, *ticks(cron(expression, zone), since, 5)]))


@pytest.mark.parametrize(("zone", "day"), [("Europe/Berlin", "2026-10-25"), ("America/New_York", "2026-11-01")])
@pytest.mark.parametrize("expression", ["30 2 * * *", "30 1 * * *", "*/20 * * * *", "0 1-3 * * *"])
def test_no_tick_is_past_in_the_hour_that_is_repeated(zone: str, day: str, expression: str) -> None:
    """Whatever minute of that night one asks in."""
    midnight = ms(f"{day}T00:00:00+00:00")
    for instant in range(midnight, midnight + 12 * HOUR, 60_000):
        tick = cron(expression, zone).next_after(instant)
        assert tick is not None
        assert tick > instant


@given(interval=st.integers(1_000, DAY), anchor=st.integers(0, 10 * DAY), since=st.integers(0, 30 * DAY))
def test_ticks_of_an_interval_stay_on_its_grid(interval: int, anchor: int, since: int) -> None:
    """However late it is asked for, the next one is a whole number of intervals from the anchor, and the first such."""
    tick = Recurrence(None, interval, "UTC", anchor).next_after(since)

    assert tick is not None
    assert (tick - anchor) % interval == 0
    assert since < tick <= since + interval


@pytest.mark.parametrize(
    ("late", "missed", "expected"),
    [
        (0, "run", True),
        (0, "skip", True),
        (MISSED_AFTER, "skip", True),
        (MISSED_AFTER + 1, "skip", False),
        (MISSED_AFTER + 1, "run", True),
        (30 * DAY, "run", True),
        (DAY + 1_000, "skip", True),  # yesterday's was missed; today's was not
    ],
)
def test_missed_ticks_are_made_up_for_once_or_not_at_all(late: int, missed: str, expected: bool) -> None:
    """As the schedule says."""
    request = ScheduleRequest.of({"action": "a", "cron": "0 3 * * *", "missed": missed})
    tick = ms("2026-03-01T03:00:00+00:00")

    assert makes_task(request.recurrence(0), tick, tick + late, request.missed) == expected


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "either cron or interval is required, and not both"),
        ({"cron": "* * * * *", "interval": 5}, "either cron or interval is required, and not both"),
        ({"interval": 0.5}, "interval must be at least 1"),
        ({"interval": "5"}, "interval must be a number"),
        ({"cron": 5}, "cron must be a string"),
        ({"cron": "61 * * * *"}, "cron '61 * * * *': Bad minute"),
        ({"cron": "nonsense"}, "cron 'nonsense': Wrong number of fields"),
        ({"cron": "0 0 30 2 *"}, "cron '0 0 30 2 *': Bad day-of-month"),
        (
            {"cron": "* * * * *", "timezone": "Mars/Olympus"},
            "timezone 'Mars/Olympus' is not known: it must be a name such as Europe/Berlin",
        ),
        (
            {"cron": "* * * * *", "timezone": "../etc/passwd"},
            "timezone '../etc/passwd' is not known: it must be a name such as Europe/Berlin",
        ),
        ({"cron": "* * * * *", "missed": "maybe"}, "missed must be 'run' or 'skip'"),
        ({"interval": 5, "priority": 10}, "priority must be at most 9"),
    ],
)
def test_a_bad_schedule_is_refused_with_a_sentence(members: dict[str, object], sentence: str) -> None:
    """That names the member, and what will do."""
    with pytest.raises(InvalidRequest) as refused:
        ScheduleRequest.of({"action": "a", **members}).first_after(0, 0)

    assert str(refused.value) == sentence
