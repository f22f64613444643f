"""A module of a user's own actions, for services that run as processes: its handlers do as files say."""

from pathlib import Path
from typing import Final

MODULE: Final = "users_actions"

_SOURCE: Final = """
import asyncio
import os
import signal
import threading
import time
from pathlib import Path

from taskqueue.actions import Context, action


@action("wait")
async def wait(data: dict, context: Context) -> dict:
    Path(f"began.{context.task_id}.{context.attempt}").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return {"attempt": context.attempt}


@action("slow")
async def slow(data: dict) -> str:
    await asyncio.sleep(1)
    return "done"


@action("die")
async def die(data: dict) -> None:
    await asyncio.sleep(0.5)  # its neighbours are at work by then
    os.kill(os.getpid(), signal.SIGKILL)


@action("compute", process=True)
def compute(data: dict, context: Context) -> dict:
    Path("draft").write_text(str(os.getpid()))
    Path("draft").rename(f"began.{context.task_id}.{context.attempt}")
    while not Path("go").exists():
        time.sleep(0.02)
    return {"process": os.getpid()}


@action("hang", timeout=0.05, max_attempts=1)
def hang(data: dict) -> None:
    threading.Event().wait()


@action("stay")
async def stay(data: dict, context: Context) -> None:
    Path(f"began.{context.task_id}.{context.attempt}").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


class UserActions:
    """`wait` and `compute` end once they may go on, `slow` after a second, `stay` and `hang` never; `die` kills."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / f"{MODULE}.py").write_text(_SOURCE)

    def began(self, task_id: str, attempt: int = 1) -> bool:
        """Whether a handler has been called for this attempt."""
        return (self._folder / f"began.{task_id}.{attempt}").exists()

    def go_on(self) -> None:
        """Lets every `wait` and `compute` end, now and later."""
        (self._folder / "go").touch()
