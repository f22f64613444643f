"""API and worker in one process over a SQLite file, without any Docker: embedded mode, started and ended by its id."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from faults.checker import Stored
from faults.commands import ROOT, answers, free_ports, run, wait_for
from faults.scene import runs_noted
from faults.schedule import Fault
from faults.stack import BESIDE, read_stored

READY_SECONDS: Final = 60.0
END_SECONDS: Final = 40.0


class SingleProcess:
    """Embedded mode in a folder of its own."""

    name = "processes"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        self._folder = Path(tempfile.mkdtemp(prefix="taskqueue-faults-"))
        self.database = self._folder / "data" / "tasks.db"
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """See System."""
        process = subprocess.Popen(
            [sys.executable, "-m", "taskqueue_embedded"],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._process = process
        # Not straight into the file: a full disk is the database's, and must not be the log's.
        self._logging = threading.Thread(target=self._keep_log, args=(process,), daemon=True)
        self._logging.start()
        wait_for(lambda: answers(f"{self.urls()[0]}/readyz"), READY_SECONDS, "the start of embedded mode")

    def down(self) -> None:
        """See System."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            self._process.kill()
            self._process.wait()
            self._logging.join(END_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def urls(self) -> Sequence[str]:
        """See System."""
        return [f"http://127.0.0.1:{self._port}"]

    def stored(self) -> Stored:
        """See System."""
        return read_stored(run(sys.executable, str(BESIDE / "read_store.py"), str(self.database)))

    def runs(self) -> Sequence[tuple[str, int]]:
        """See System."""
        return runs_noted(self._folder / "runs")

    def buried(self) -> Sequence[bytes]:
        """See System: its broker is in its memory, and nobody else reaches it."""
        return []

    def logs(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once there is one."""
        assert self._process is not None  # noqa: S101 - a fault strikes what is up
        return self._process.wait(END_SECONDS)

    def allow_file_size(self, size: int) -> None:
        """No file of the process may grow beyond so many bytes; all that is written beyond fails."""
        assert self._process is not None  # noqa: S101 - a fault strikes what is up
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @property
    def environment(self) -> Mapping[str, str]:
        """What embedded mode, and a migrate beside it, are told."""
        path = os.pathsep.join([str(ROOT / "faults" / "actions"), os.environ.get("PYTHONPATH", "")])
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
        return plain | {
            "PYTHONPATH": path,
            "TASKQUEUE_ACTIONS": "known_answers",
            "TASKQUEUE_DATABASE_URL": f"sqlite:///{self.database}",
            "TASKQUEUE_LOG_FORMAT": "json",
            "TASKQUEUE_PORT": str(self._port),
            "FAULTS_RUN_LOG": str(self._folder / "runs"),
        }

    def _keep_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        with process.stdout, (self._folder / "log").open("ab") as log:
            shutil.copyfileobj(process.stdout, log)
