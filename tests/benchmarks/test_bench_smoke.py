"""The benchmarks work, with tiny numbers: what they measure here means nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docker import require_docker

ROOT = Path(__file__).parents[2]
SECONDS = 110


@pytest.mark.docker
@pytest.mark.slow
def test_a_tiny_run_prints_a_table_and_writes_a_report(tmp_path: Path) -> None:
    """One command measures contenders on a real RabbitMQ, prints a table, and writes it with a chart."""
    require_docker()
    report = tmp_path / "report.md"
    options = ["--plan", "tiny", "--scenarios", "core,growth", "--only", "naive,ours,embedded", "--report", str(report)]
    command = [sys.executable, "-m", "benchmarks", *options]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "| **ours, API + worker** |" in ended.stdout
    assert "| **ours, embedded** |" in report.read_text()
    assert "| get_last_p99_ms |" in report.read_text()
    assert "naive aiohttp + aio-pika" in report.with_suffix(".svg").read_text()
