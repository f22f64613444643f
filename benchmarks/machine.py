"""The machine that the figures are from."""

import os
import platform
import shutil
import statistics
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import psutil

FSYNCS: Final = 200


def describe(work: Path) -> dict[str, Any]:
    """Cores, processor, kernel, and what lies under `work`, where all contenders keep their files."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": _file_system(work),
        "fsync_p50_ms": round(_fsync_ms(work), 3),
        "busy_percent_before": psutil.cpu_percent(interval=2.0),
    }


def versions(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of these packages, as that Python has them; those that it has not are left out."""
    script = (
        "import sys, json; from importlib.metadata import version, PackageNotFoundError\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = version(name)\n"
        "    except PackageNotFoundError: pass\n"
        "print(' '.join(f'{name}={value}' for name, value in found.items()))"
    )
    ended = subprocess.run([python, "-c", script, *packages], capture_output=True, text=True, timeout=60, check=True)
    return dict(pair.split("=", 1) for pair in ended.stdout.split())


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    if shutil.which("stat") is None:
        return "unknown"
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return ended.stdout.strip() or "unknown"


def _fsync_ms(folder: Path) -> float:
    """How long a 4 KiB write takes until it is on disk (ms): the median."""
    took = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 4096)
            file.flush()
            began = time.monotonic()
            os.fsync(file.fileno())
            took.append(time.monotonic() - began)
    return statistics.median(took) * 1000
