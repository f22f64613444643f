"""How a worker shows itself: an entry while it lives, which it keeps, and takes away when it stops."""

import asyncio
import json
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, GetJsonSchemaHandler

from taskqueue import events
from taskqueue.actions import action
from taskqueue_worker import presence
from taskqueue_worker.assembly import worker_name
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.worker.conftest import Workshop


class Picture(BaseModel):
    """What `resize` takes."""

    width: int = Field(ge=1)


class Huge(BaseModel):
    """A model whose schema is larger than anybody wants to read."""

    a: int = Field(description="x" * presence.MAX_SCHEMA_BYTES)


class Broken(BaseModel):
    """A model that fails when it is asked for its schema."""

    why: ClassVar[str] = "broken"

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> Any:
        """Fails."""
        raise RuntimeError(cls.why)


@action("resize")
async def resize(data: Picture) -> None:
    """Makes a picture smaller."""


@action("anything")
def takes_anything(data: dict[str, Any]) -> None:  # noqa: D103 - the action has no description
    ...


@action("huge")
async def huge(data: Huge) -> None:
    """Is huge."""


@action("broken")
async def broken(data: Broken) -> None:
    """Is broken."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker says many times a second that it is there."""
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)


async def _entry(workshop: Workshop) -> tuple[Any, ...]:
    query = "SELECT name, started_at, seen_at, concurrency, actions FROM workers"
    [entry] = await eventually(lambda: rows(workshop.database, query), what="the entry")
    return tuple(entry)


def _is_gone(workshop: Workshop) -> bool:
    return rows(workshop.database, "SELECT * FROM workers") == []


async def test_a_worker_tells_who_it_is_and_what_it_can_do(workshop: Workshop) -> None:
    """Its own actions and those of its user, with the schema of their data."""
    async with workshop.working(resize, takes_anything, channels=2, prefetch_count=7):
        name, started_at, seen_at, concurrency, actions = await _entry(workshop)

    assert (name, concurrency) == (worker_name(), 14)
    assert started_at <= seen_at
    offered = json.loads(actions)
    assert sorted(offered) == ["anything", "resize", "sum", "uppercase"]
    assert offered["resize"] == {"description": "Makes a picture smaller.", "schema": Picture.model_json_schema()}
    assert offered["anything"] == {"description": "", "schema": {"type": "object"}}


async def test_the_log_says_at_the_start_what_a_worker_can_do(workshop: Workshop) -> None:
    """So that a package that was forgotten is seen before its tasks are answered as unknown ones."""
    async with workshop.working(resize):
        report = await workshop.reported(events.STARTED)

    assert (report["service"], report["actions"]) == ("worker", ["resize", "sum", "uppercase"])


async def test_a_schema_that_cannot_be_published_is_left_out(workshop: Workshop) -> None:
    """Its action works all the same."""
    async with workshop.working(huge, broken):
        offered = json.loads((await _entry(workshop))[4])

    assert offered["huge"] == {"description": "Is huge.", "schema": None}
    assert offered["broken"] == {"description": "Is broken.", "schema": None}


@action("odd")
async def odd(data: dict[str, Any]) -> None:  # noqa: D103 - it is given below
    ...


odd.handler.__doc__ = "A docstring with a lone \ud800 surrogate."


async def test_a_description_that_no_database_takes_is_told_without_what_it_cannot_take(workshop: Workshop) -> None:
    """The worker is listed all the same."""
    async with workshop.working(odd):
        offered = json.loads((await _entry(workshop))[4])

    assert offered["odd"]["description"] == "A docstring with a lone ? surrogate."


async def test_a_beat_changes_the_time_alone(workshop: Workshop) -> None:
    """What the entry tells is written once."""
    async with workshop.working():
        first = await _entry(workshop)
        change(workshop.database, "UPDATE workers SET actions = 'as it was'")
        await eventually(lambda: _seen_at(workshop) > first[2], what="a beat")

        assert (await _entry(workshop))[4] == "as it was"


async def test_an_entry_that_was_removed_is_made_again(workshop: Workshop) -> None:
    """By the next beat."""
    async with workshop.working():
        first = await _entry(workshop)
        change(workshop.database, "DELETE FROM workers")

        again = await _entry(workshop)

    assert (again[0], again[1], again[4]) == (first[0], first[1], first[4])


async def test_a_worker_that_stops_takes_its_entry_with_it(workshop: Workshop) -> None:
    """At an orderly stop, at once."""
    async with workshop.working() as worker:
        await _entry(workshop)
        await worker.stop()

        assert _is_gone(workshop)


async def test_a_worker_that_is_cut_off_leaves_its_entry(workshop: Workshop) -> None:
    """Nobody can say that it has gone; it is not kept any more."""
    with suppress(asyncio.CancelledError):
        async with workshop.working() as worker:
            await _entry(workshop)
            worker.run.cancel()

    assert not _is_gone(workshop)
    seen_at = _seen_at(workshop)
    await asyncio.sleep(0.2)
    assert _seen_at(workshop) == seen_at


async def test_while_the_roster_cannot_be_written_the_worker_works_and_stops(workshop: Workshop) -> None:
    """It enters itself when that is possible."""
    change(workshop.database, "ALTER TABLE workers RENAME TO elsewhere")
    async with workshop.working():
        assert (await workshop.outcome("uppercase", {"text": "a"})).result == {"output": "A"}
        change(workshop.database, "ALTER TABLE elsewhere RENAME TO workers")
        await _entry(workshop)
        change(workshop.database, "ALTER TABLE workers RENAME TO elsewhere")


def _seen_at(workshop: Workshop) -> int:
    [(seen_at,)] = rows(workshop.database, "SELECT seen_at FROM workers")
    return int(seen_at)
