"""Named points between any two steps that matter, at which a setting can kill, stall or fail this process.

For tests and for whoever wants to see it: what is between two steps is where a crash would cost something. A point that
nothing is armed at costs one test of an empty dictionary.
"""

import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

POINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accept.received": "the API has read a request, and has recorded nothing",
        "accept.committed": "its task is on disk, and not handed to the dispatcher",
        "accept.answering": "its task is handed over, and the client has no answer",
        "retry.committed": "a task is to be tried again by hand, and not handed to the dispatcher",
        "commit.writing": "a transaction is written, and not committed",
        "commit.done": "a transaction is on disk, and nobody has been told",
        "publish.sending": "a batch is taken, and no message is sent",
        "publish.confirmed": "the broker has confirmed a batch, and the store does not know",
        "mark.committed": "the store knows that the broker has a batch",
        "sweep.taken": "a sweep has taken due tasks, and handed none to the dispatcher",
        "sweep.handed": "a sweep has handed one due task to the dispatcher, and not the next",
        "sweep.requeued": "a sweep has made tasks due whose message was lost",
        "sweep.ticked": "schedules have made their tasks, which are not handed over",
        "resume.committed": "embedded mode has taken up what was left, and does not serve yet",
        "delivery.received": "a worker has read a message, and claimed nothing",
        "claim.committed": "an attempt has begun, and its handler is not called",
        "lease.renewed": "a lease is renewed while its handler is at work",
        "handler.returned": "the handler has returned, and nothing is recorded",
        "settle.committed": "the outcome is on disk, and the message is not acknowledged",
        "ack.sent": "the message is acknowledged",
        "drain.begun": "a worker that stops receives no more, and has tasks at work",
        "bury.published": "an unreadable message is in the dead-letter queue, and in the queue still",
        "direct.taken": "a worker has taken due tasks past the broker, and claimed none",
        "migrate.locked": "migrate is the only one, and has no transaction",
        "migrate.statement": "migrate is about to execute a statement",
        "migrate.upgraded": "all migrations are made, and not committed",
        "migrate.committed": "all migrations are on disk",
    }
)
"""Every point, and where the process then is."""

_FORM: Final = re.compile(r"(?P<do>kill|fail|stall:(?P<seconds>\d+(\.\d+)?))(@(?P<passing>[1-9]\d*))?")


class FailpointReached(Exception):
    """A failpoint was told to fail here."""


@dataclass
class _Armed:
    """What is to happen at a point: at its n-th passing, or at each."""

    do: str
    seconds: float
    passing: int | None
    passed: int = 0

    def pass_by(self, name: str) -> None:
        self.passed += 1
        if self.passing not in (None, self.passed):
            return
        if self.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.do == "fail":
            raise FailpointReached(name)
        time.sleep(self.seconds)


_armed: dict[str, _Armed] = {}


def reach(name: str) -> None:
    """The process is at the point `name`. A stall stops whatever shares its thread: the event loop, as a rule."""
    if _armed and name in _armed:
        _armed[name].pass_by(name)


def arm(text: str) -> None:
    """Arms the points that `text` names, and no others. Raises ValueError with what is wrong, and the points."""
    armed = parse(text)
    _armed.clear()
    _armed.update(armed)


def parse(text: str) -> Mapping[str, _Armed]:
    """What is to happen where, from `point=kill@3,other=stall:0.5`. Raises ValueError."""
    return dict(_parse(part) for part in text.split(",") if part.strip())


def checked(text: str) -> str:
    """The text, if it can be armed. Raises ValueError."""
    parse(text)
    return text


def _parse(part: str) -> tuple[str, _Armed]:
    name, _, form = part.strip().partition("=")
    if name not in POINTS:
        raise ValueError(f"there is no failpoint {name!r:.60}; there are {', '.join(POINTS)}")
    found = _FORM.fullmatch(form)
    if found is None:
        raise ValueError(
            f"{form!r:.60} is nothing that {name} can do: kill, fail or stall:SECONDS, "
            f"each with @N for the N-th passing alone; the points are {', '.join(POINTS)}"
        )
    do, passing = found["do"].partition(":")[0], found["passing"]
    return name, _Armed(do, float(found["seconds"] or 0), int(passing) if passing else None)
