"""The micro-benchmarks, each in a process of its own."""

import json
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.broker import RabbitMQ
from benchmarks.contenders.contender import Command
from benchmarks.environments import Environments
from benchmarks.load.order import answers, load
from benchmarks.plan import Plan
from benchmarks.processes import free_ports, started

START_SECONDS: Final = 20.0
MOST_SECONDS: Final = 300.0


def measure_limits(environments: Environments, broker: RabbitMQ, work: Path, plan: Plan) -> dict[str, Any]:
    """Bare HTTP, commits by size, messages."""
    with TemporaryDirectory(prefix="limits-", dir=work) as folder, broker.virtual_host("limits") as url:
        seconds = str(plan.limit_seconds)
        return {
            "http": _bare_http(environments, Path(folder), plan),
            "commits": _run(environments, "commits", folder, seconds),
            "messages": _run(environments, "messages", url, seconds),
        }


def _bare_http(environments: Environments, folder: Path, plan: Plan) -> dict[str, float]:
    (port,) = free_ports(1)
    server = Command([environments.ours, "-m", "benchmarks.limits.bare_http", str(port)])
    with started(server, folder / "bare_http.log") as running:
        give_up = time.monotonic() + START_SECONDS
        while not answers(port) and time.monotonic() < give_up:
            running.check()
            time.sleep(0.05)
        return load(mode="post", ports=[port], connections=plan.connections, seconds=plan.post_seconds)


def _run(environments: Environments, module: str, *arguments: str) -> Any:
    ended = subprocess.run(
        [environments.ours, "-m", f"benchmarks.limits.{module}", *arguments],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{module} failed: {ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])  # what came before is log
