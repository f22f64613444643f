"""Actions that ask for a process: in a module of their own, since the process imports it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taskqueue.actions import Context, Fail, RetryAfter, action


class Number(BaseModel):
    """Data of a handler in a process."""

    n: int


@action("square", process=True)
def square(data: Number, context: Context) -> dict[str, Any]:
    """Its square, and where that was found."""
    seen = [context.task_id, context.attempt, context.cancelled]
    return {"square": data.n**2, "process": os.getpid(), "context": seen, "time left": context.deadline - time.time()}


@action("print", process=True)
def print_much(data: dict[str, Any]) -> str:
    """Prints by every way that there is, and starts a program that does."""
    print("RETURN 3")  # noqa: T201 - to break what anyio reads, if it could
    sys.stderr.write("x" * 200_000)
    os.write(1, b"RETURN 3\nabc")
    os.write(2, b"x" * 200_000)
    subprocess.run(["cat"], check=True)
    subprocess.run(["echo", "RETURN 3"], check=True)
    return "printed"


@action("fail in a process", process=True)
def fail(data: dict[str, Any], context: Context) -> None:
    """Fails in the way that is asked for."""
    match data["how"]:
        case "raise":
            raise ValueError("no")
        case "unpicklable":
            raise _Unpicklable(lambda: None, "gone")
        case "for good":
            raise Fail("never")
        case "later":
            raise RetryAfter(3600, "not now")
        case "exit":
            sys.exit(3)
        case "die":
            os._exit(3)
        case "report":
            context.report_progress(0.5)
        case "log":
            context.logger.info("a line")


@action("object", process=True)
def give_object(data: dict[str, Any]) -> object:
    """What is no JSON."""
    return object()


@action("busy", process=True)
def busy(data: dict[str, Any]) -> str:
    """Leaves its process's number in a file, and works until there is another file, if one is named at all."""
    Path(data["file"]).write_text(str(os.getpid()))
    while not ("until" in data and Path(data["until"]).exists()):
        time.sleep(0.01)
    return "done"


@action("hasty", process=True, timeout=0.02, max_attempts=1)
def hasty(data: dict[str, Any]) -> None:
    """Has less time than a process takes to start."""


class _Unpicklable(Exception):
    def __init__(self, call: object, text: str) -> None:
        super().__init__(text)
        self.call = call
