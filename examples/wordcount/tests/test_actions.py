"""Your own actions are tested without HTTP, broker or database: `pip install pytest`, then `pytest`."""

import asyncio

import pytest

from taskqueue.actions import InvalidData, Progress
from taskqueue.actions.testing import run_action
from wordcount.actions import greet, longest_repeat, wordcount


def test_words_are_counted() -> None:
    """A blocking handler; what it reported on its way is there to be looked at."""
    progress: list[Progress] = []

    result = asyncio.run(run_action(wordcount, {"text": "to be\nor not to be", "most": 2}, progress=progress))

    assert result == {"to": 2, "be": 2}
    assert progress == [Progress(0.5), Progress(1.0)]


def test_a_count_of_nothing_is_refused() -> None:
    """Data that does not fit the model fails the task, and raises here."""
    with pytest.raises(InvalidData, match=r"data\.most"):
        asyncio.run(run_action(wordcount, {"text": "to be", "most": 0}))


def test_somebody_is_greeted() -> None:
    """An async handler, in its second attempt."""
    greeting = asyncio.run(run_action(greet, {"name": "Ada"}, attempt=2))

    assert greeting.startswith("Hello Ada, from attempt 2")


def test_the_longest_repeat_is_found() -> None:
    """A handler that a worker runs in a process."""
    assert asyncio.run(run_action(longest_repeat, {"text": "to be or not to be"})) == "to be"
