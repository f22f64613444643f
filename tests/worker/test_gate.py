"""What runs beside what in a worker: together, or alone, in order, and never for ever."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from taskqueue_worker.gate import Gate, GateClosed
from tests.support.eventually import eventually

PLENTY = 1_000


class Visit:
    """Somebody who comes to a gate, and stays inside until told to go."""

    def __init__(self, gate: Gate, *, alone: bool = False) -> None:
        self.inside = False
        self._may_go = asyncio.Event()
        self._gate = gate
        self._alone = alone
        self.task = asyncio.create_task(self._visit())

    async def leave(self) -> None:
        """Goes, and returns when gone."""
        self._may_go.set()
        await self.task

    async def give_up(self) -> None:
        """Is cancelled, wherever it stands."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _visit(self) -> None:
        async with self._gate.passing(alone=self._alone):
            self.inside = True
            await self._may_go.wait()
            self.inside = False


async def test_many_are_inside_together() -> None:
    """Nobody waits where nobody is alone."""
    gate = Gate(PLENTY)
    visits = [Visit(gate) for _ in range(9)]

    await _settle()

    assert all(visit.inside for visit in visits)
    for visit in visits:
        await visit.leave()


async def test_no_more_are_inside_than_it_holds() -> None:
    """The next one enters when one leaves; one alone needs no more room than others."""
    gate = Gate(2)
    one, two, three = (Visit(gate) for _ in range(3))
    await _settle()
    assert [visit.inside for visit in (one, two, three)] == [True, True, False]

    await one.leave()
    await _settle()
    assert three.inside

    alone = Visit(gate, alone=True)
    await two.leave()
    await three.leave()
    await _settle()
    assert alone.inside
    await alone.leave()


async def test_one_alone_waits_for_the_others_and_they_for_it() -> None:
    """It enters an empty place, and nobody enters while it is inside."""
    gate = Gate(PLENTY)
    before = Visit(gate)
    await _settle()
    alone = Visit(gate, alone=True)
    after = Visit(gate)
    await _settle()
    assert (before.inside, alone.inside, after.inside) == (True, False, False)

    await before.leave()
    await _settle()
    assert (alone.inside, after.inside) == (True, False)

    await alone.leave()
    await _settle()
    assert after.inside
    await after.leave()


async def test_nobody_is_overtaken_for_ever() -> None:
    """A stream of others does not keep one alone outside, nor do two alone keep out the others."""
    gate = Gate(PLENTY)
    first = Visit(gate)
    await _settle()
    alone, between, alone_too, last = (Visit(gate, alone=alone) for alone in (True, False, True, False))
    order = []
    for visit in (first, alone, between, alone_too, last):
        await eventually(partial(getattr, visit, "inside"), what="admission")
        order.append([other.inside for other in (first, alone, between, alone_too, last)].index(True))
        await visit.leave()

    assert order == [0, 1, 2, 3, 4]


async def test_who_gives_up_waiting_is_in_nobodys_way() -> None:
    """Those behind it enter at once."""
    gate = Gate(PLENTY)
    before = Visit(gate)
    await _settle()
    alone = Visit(gate, alone=True)
    after = Visit(gate)
    await _settle()

    await alone.give_up()
    await _settle()

    assert after.inside
    await before.leave()
    await after.leave()


async def test_who_is_cancelled_at_the_moment_of_admission_leaves() -> None:
    """Admitted and cancelled in one turn of the loop: the next one enters all the same."""
    gate = Gate(PLENTY)
    async with gate.passing(alone=False):
        alone = Visit(gate, alone=True)
        after = Visit(gate)
        await _settle()

    assert not alone.inside  # admitted, and its task has not run since
    await alone.give_up()
    await _settle()

    assert after.inside
    await after.leave()


async def test_who_is_cancelled_inside_leaves() -> None:
    """The place is free again."""
    gate = Gate(PLENTY)
    alone = Visit(gate, alone=True)
    await _settle()
    after = Visit(gate)

    await alone.give_up()
    await _settle()

    assert after.inside
    await after.leave()


async def test_a_closed_gate_turns_away_who_waits_and_who_comes() -> None:
    """And leaves those inside alone."""
    gate = Gate(PLENTY)
    inside = Visit(gate)
    await _settle()
    waiting = [Visit(gate, alone=True), Visit(gate)]
    await _settle()

    gate.close()
    await asyncio.wait({visit.task for visit in waiting})

    assert all(isinstance(visit.task.exception(), GateClosed) for visit in waiting)
    assert inside.inside
    await inside.leave()
    with pytest.raises(GateClosed):
        async with gate.passing(alone=False):
            pass


async def test_it_holds_whatever_happens() -> None:
    """Five hundred random visits, a third of them cancelled at a random moment: never anybody beside one alone."""
    gate, chance, inside = Gate(PLENTY), random.Random(7), []

    @asynccontextmanager
    async def being_seen(alone: bool) -> AsyncIterator[None]:
        inside.append(alone)
        assert len(inside) == 1 or not any(inside)
        try:
            yield
        finally:
            inside.remove(alone)

    async def visit(alone: bool) -> None:
        async with gate.passing(alone=alone), being_seen(alone):
            await asyncio.sleep(chance.random() / 200)

    async def come() -> asyncio.Task[None]:
        await asyncio.sleep(chance.random() / 5)
        task = asyncio.create_task(visit(chance.random() < 0.2))
        if chance.random() < 0.3:
            asyncio.get_running_loop().call_later(chance.random() / 100, task.cancel)
        return task

    tasks = await asyncio.gather(*(come() for _ in range(500)))
    done, waiting = await asyncio.wait(tasks, timeout=20)

    assert waiting == set()
    assert [task.exception() for task in done if not task.cancelled() and task.exception()] == []
    assert inside == []


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
