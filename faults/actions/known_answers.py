"""Actions whose answers are known beforehand, and which note each run in a log that survives their worker."""

import asyncio
import os
import signal
from pathlib import Path

from pydantic import BaseModel

from taskqueue.actions import Backoff, Context, Fail, action


class Number(BaseModel):
    """What each of them takes; `seconds` is how long a lingering one works."""

    n: int
    seconds: float = 0


@action("double")
async def double(data: Number, context: Context) -> dict[str, int]:
    """Twice the number, at once."""
    _note_run(context)
    return {"output": 2 * data.n}


@action("linger")
async def linger(data: Number, context: Context) -> dict[str, int]:
    """Twice the number, after a while: long enough to be cut off in the middle."""
    _note_run(context)
    await asyncio.sleep(data.seconds)
    return {"output": 2 * data.n}


@action("stumble", backoff=Backoff(first=0.5))
async def stumble(data: Number, context: Context) -> dict[str, int]:
    """Twice the number, at the second attempt."""
    _note_run(context)
    if context.attempt == 1:
        raise RuntimeError("the first attempt stumbles")
    return {"output": 2 * data.n}


@action("doomed")
async def doomed(data: Number, context: Context) -> None:
    """Fails for good."""
    _note_run(context)
    raise Fail(f"{data.n} is doomed")


@action("poison")
async def poison(_: Number, context: Context) -> None:
    """Takes its worker down, as a crash in native code does."""
    _note_run(context)
    os.kill(os.getpid(), signal.SIGKILL)


def _note_run(context: Context) -> None:
    """One write to the end of the file: it is whole, whoever else writes, and outlives the process."""
    log = os.open(Path(os.environ["FAULTS_RUN_LOG"]), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(log, f"{context.task_id} {context.attempt}\n".encode())
    finally:
        os.close(log)
