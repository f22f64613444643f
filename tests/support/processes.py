"""Our services as processes of their own, the way a supervisor runs them: started, read from outside, ended by id."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any, Final

from taskqueue.events import START_REFUSED, STARTED, LogEvent
from taskqueue.settings import PREFIX
from tests.support.eventually import eventually

START_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0


class Service:
    """One process, and what it logs."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self._process = process
        self._log_file = log_file

    @property
    def said(self) -> str:
        """Everything that it has written so far."""
        return self._log_file.read_text(errors="replace")

    @property
    def outbursts(self) -> list[str]:
        """What it wrote past its log: tracebacks, warnings, whatever is no line of JSON."""
        return [line for line in self.said.splitlines() if not _entry(line)]

    def reports(self, event: LogEvent, **fields: object) -> list[dict[str, Any]]:
        """Every line of its log about `event`, with these fields, so far."""
        wanted = {"name": event.name, **fields}
        return [entry for entry in map(_entry, self.said.splitlines()) if wanted.items() <= entry.items()]

    async def reported(self, event: LogEvent, **fields: object) -> dict[str, Any]:
        """The first such line, once it is there; fails at once where the process has ended without it."""

        def first() -> dict[str, Any] | None:
            ended = self._process.poll()
            found = self.reports(event, **fields)
            assert found or ended is None, f"ended with {ended} before it reported {event.name}: {self.said}"
            return found[0] if found else None

        entry: dict[str, Any] = await eventually(first, within=START_SECONDS, what=f"the report of {event.name}")
        return entry

    @property
    def pid(self) -> int:
        """Its id, for looking at it from outside."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def refusal(self) -> str:
        """The sentence with which it refused to start; fails where it said more than that."""
        [entry] = self.reports(START_REFUSED)
        assert self.outbursts == []
        assert "exception" not in entry
        return str(entry["reason"])

    async def url(self) -> str:
        """Where its API listens, once it does."""
        entry = await self.reported(STARTED, service="api")
        return f"http://127.0.0.1:{entry['port']}"

    def signal(self, number: Signals) -> None:
        """Sends a signal to this process and to no other."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Asks for an orderly end."""
        self.signal(SIGTERM)

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def insist(self, number: Signals) -> bool:
        """Sends a signal once more, and answers whether the process has ended."""
        self.signal(number)
        return self._process.poll() is not None

    async def ended(self, *, within: float = END_SECONDS) -> int:
        """Its exit code, once it has ended."""
        await eventually(lambda: self._process.poll() is not None, within=within, what="the end of the process")
        return int(self._process.returncode)


@contextmanager
def running_service(
    module: str, folder: Path, log_file: Path, settings: Mapping[str, object], *, under: Sequence[str] = ()
) -> Iterator[Service]:
    """`python -m module`, at work in `folder`, with these settings alone (named without prefix).

    It does not outlive the block. `under` is a command that becomes it, such as `nice`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = {f"{PREFIX}{name}": str(value) for name, value in settings.items()} | {"PYTHONWARNINGS": "error"}
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", *module.split()],
            env=inherited | ours,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Service(process, log_file)
    finally:
        process.kill()
        process.wait()


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
