"""Three actions: one waits (`async def`), one works (`def`, in a thread), and one computes (in a process)."""

import asyncio
from collections import Counter
from itertools import pairwise, takewhile

from pydantic import BaseModel, Field

from taskqueue.actions import Backoff, Context, Fail, action


class Text(BaseModel):
    """What `wordcount` takes: data that does not fit fails the task at once, with a sentence that says why."""

    text: str
    most: int = Field(default=3, ge=1, le=100)


@action("wordcount", max_attempts=3, backoff=Backoff(first=5))
def wordcount(data: Text, context: Context) -> dict[str, int]:
    """The most frequent words of a text, and how often each occurs."""
    counts: Counter[str] = Counter()
    lines = data.text.lower().splitlines()
    for number, line in enumerate(lines, start=1):
        if context.cancelled:
            raise Fail("called off")
        counts.update(line.split())
        context.report_progress(number / len(lines))
    return dict(counts.most_common(data.most))


@action("greet", timeout=10)
async def greet(data: dict[str, str], context: Context) -> str:
    """A greeting, and who it is from."""
    await context.progress(0.5, "thinking of a greeting")
    await asyncio.sleep(0.01)
    return f"Hello {data.get('name', 'world')}, from attempt {context.attempt} of task {context.task_id}"


@action("longest_repeat", timeout=60, process=True)
def longest_repeat(data: Text) -> str:
    """The longest passage that a text holds twice."""
    words = data.text.split()
    endings = sorted(words[start:] for start in range(len(words)))
    longest: list[str] = max((_beginning(*pair) for pair in pairwise(endings)), key=len, default=[])
    return " ".join(longest)


def _beginning(one: list[str], other: list[str]) -> list[str]:
    """What both begin with."""
    return [word for word, _ in takewhile(lambda words: words[0] == words[1], zip(one, other, strict=False))]
