"""strace around a service: it sees each time that the disk is asked to keep something, and can have it refuse."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

_SYNCS = "fdatasync,fsync"


@cache
def _trouble() -> str:
    """Why strace cannot be used here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-D", "-f", "-o", "/dev/null", "-e", f"trace={_SYNCS}", "true"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return "" if tried.returncode == 0 and not tried.stderr else f"strace may trace nothing here: {tried.stderr}"


def require_strace() -> None:
    """Skips the test where strace is not there, or may not trace."""
    if trouble := _trouble():
        pytest.skip(trouble)


class Syncs:
    """Every sync of one process, as strace notes it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def command(self, *, failing: str = "") -> Sequence[str]:
        """What to start the process under; a thread's syncs that `failing` names, as `when` in strace(1), fail by EIO.

        The tracer is the grandchild (-D), so that the process keeps its id, and a signal reaches it.
        """
        harm = ["-e", f"inject={_SYNCS}:error=EIO:when={failing}"] if failing else []
        return ["strace", "-D", "-f", "-o", str(self._file), "-e", f"trace={_SYNCS}", *harm]

    @property
    def done(self) -> int:
        """How many have succeeded so far."""
        return len(re.findall(r"sync(?:\(\d+\)| resumed>\)) += 0\n", self._file.read_text()))

    @property
    def refused(self) -> int:
        """How many have failed so far because they were made to."""
        return self._file.read_text().count("(INJECTED)")
