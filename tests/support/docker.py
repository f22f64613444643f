"""Tests that need a Docker engine: skipped with a reason where there is none, failed where CI promises one."""

import functools
import os
import subprocess

import pytest


@functools.cache
def docker_works() -> bool:
    """Whether an engine answers."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def require_docker() -> None:
    """Returns where Docker works; else skips the test, or fails it under CI=true."""
    if docker_works():
        return
    reason = "needs a Docker engine, and none answers"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
