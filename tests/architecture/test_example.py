"""The example is what the README says: a package of its own that a worker finds, and that has its own tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount"
FIND = """
import json
from taskqueue_worker.builtin import builtin_registry
from taskqueue_worker.discovery import discover
discover(registry := builtin_registry(0), [])
print(json.dumps(registry.names))
"""


@pytest.fixture(name="environment", scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which Python finds the example as an installed package."""
    source, installed = tmp_path_factory.mktemp("source") / "wordcount", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", installed)
    _python(os.environ, "-m", "pip", "install", *options, source)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}


def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    """Run as its author would, apart from ours."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")

    report = _python(environment, *["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], folder=tmp_path)

    assert "4 passed" in report


def test_a_worker_finds_its_actions(environment: dict[str, str], tmp_path: Path) -> None:
    """By its entry point; the one that asks for a process can be found there, too."""
    names = json.loads(_python(environment, "-c", FIND, folder=tmp_path))

    assert names == ["greet", "longest_repeat", "sum", "uppercase", "wordcount"]


def test_its_image_is_made_by_three_lines() -> None:
    """As the README promises."""
    lines = [line for line in (EXAMPLE / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]

    assert [line.split()[0] for line in lines] == ["FROM", "COPY", "RUN"]


def _python(
    environment: "os._Environ[str] | dict[str, str]", *arguments: str | Path, folder: Path | None = None
) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
