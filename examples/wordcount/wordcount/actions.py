"""Two actions: one that waits (`async def`), and one that works (`def`, which the worker runs in a thread)."""

import asyncio
from collections import Counter

from pydantic import BaseModel, Field

from taskqueue.actions import Context, action


class Text(BaseModel):
    """What `wordcount` takes: data that does not fit fails the task at once, with a sentence that says why."""

    text: str
    most: int = Field(default=3, ge=1, le=100)


@action("wordcount")
def wordcount(data: Text) -> dict[str, int]:
    """The most frequent words of a text, and how often each occurs."""
    return dict(Counter(data.text.lower().split()).most_common(data.most))


@action("greet")
async def greet(data: dict[str, str], context: Context) -> str:
    """A greeting, and who it is from."""
    await asyncio.sleep(0.01)
    return f"Hello {data.get('name', 'world')}, from attempt {context.attempt} of task {context.task_id}"
