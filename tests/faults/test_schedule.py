"""The schedule of faults: decided by its seed alone, and fair."""

from itertools import islice
from random import Random

from faults.__main__ import ON_COMPOSE, ON_PROCESSES
from faults.asks import draw
from faults.schedule import schedule


def test_the_same_seed_brings_the_same_faults() -> None:
    """Names, order, durations, and the seed of all that is left to chance in each."""
    first, second = (list(islice(schedule(ON_COMPOSE, 7), 100)) for _ in range(2))

    assert first == second


def test_the_same_seed_asks_the_same() -> None:
    """Actions, data, keys and options: one request after another."""
    first, second = ([draw(random, "tag") for _ in range(200)] for random in (Random(7), Random(7)))

    assert first == second
    assert len({ask.body for ask in first}) > 150


def test_another_seed_brings_another_order() -> None:
    """So that five seeds are five runs."""
    orders = {tuple(one.fault.name for one in islice(schedule(ON_COMPOSE, seed), 10)) for seed in range(5)}

    assert len(orders) == 5


def test_every_fault_comes_once_before_any_comes_again() -> None:
    """One pass leaves nothing out, and each lasts as long as it says."""
    one_pass = list(islice(schedule(ON_COMPOSE, 7), len(ON_COMPOSE)))

    assert {one.fault for one in one_pass} == set(ON_COMPOSE)
    assert all(one.fault.least <= one.held <= one.fault.most for one in one_pass)


def test_no_two_faults_of_a_system_have_one_name() -> None:
    """A name finds its fault."""
    for faults in (ON_COMPOSE, ON_PROCESSES):
        assert len({fault.name for fault in faults}) == len(faults)
