"""A budget of bytes: what is at work at once is bounded, and everybody has a turn; and of places."""

import asyncio

import pytest

from taskqueue_api.budget import ByteBudget, Seats


async def test_what_fits_goes_on_at_once() -> None:
    """Nobody waits while there is enough for all."""
    budget = ByteBudget(10)

    async with budget.holding(4), budget.holding(6):
        pass


async def test_what_does_not_fit_waits_until_enough_is_given_back() -> None:
    """The sum of what is held never exceeds the budget, and all of it is had in the end."""
    budget = ByteBudget(10)
    held = most = done = 0

    async def work(size: int) -> None:
        nonlocal held, most, done
        async with budget.holding(size):
            held += size
            most = max(most, held)
            await asyncio.sleep(0)
            held -= size
            done += 1

    await asyncio.gather(*(work(1 + number % 10) for number in range(200)))

    assert (done, held) == (200, 0)
    assert most <= 10


async def test_small_ones_do_not_overtake_a_large_one_for_ever() -> None:
    """Turns are taken in order."""
    budget = ByteBudget(10)
    order: list[str] = []

    async def work(name: str, size: int) -> None:
        async with budget.holding(size):
            order.append(name)

    async with budget.holding(8):
        waiting = [asyncio.create_task(work("large", 10)), asyncio.create_task(work("small", 1))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)

    assert order == ["large", "small"]


async def test_who_goes_away_while_waiting_takes_nothing() -> None:
    """A client that is gone leaves its share to the others, before its turn and at it."""
    budget = ByteBudget(10)

    async def work() -> None:
        async with budget.holding(10):
            pass

    async with budget.holding(10):
        before, at = asyncio.create_task(work()), asyncio.create_task(work())
        await asyncio.sleep(0)
        before.cancel()
    at.cancel()
    await asyncio.wait({before, at})

    async with asyncio.timeout(5), budget.holding(10):
        pass


def test_who_finds_no_seat_is_told_so_at_once() -> None:
    """A seat is free again when its block ends, also by an error."""
    seats = Seats(1)

    with seats.one() as first, seats.one() as second:
        assert (first, second) == (True, False)
    with pytest.raises(ValueError, match="x"), seats.one():
        raise ValueError("x")

    with seats.one() as again:
        assert again
