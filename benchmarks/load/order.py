"""Ordering a load from the generator's process."""

import json
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

BODY: Final = b'{"action":"uppercase","data":{"text":"to be or not to be"}}'
MARGIN_SECONDS: Final = 120.0


def load(*, seconds: float, **order: Any) -> dict[str, float]:
    """What the generator saw; see `closed_loop` and `paced`. Raises RuntimeError where it fails."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(order | {"seconds": seconds})],
        capture_output=True,
        text=True,
        timeout=seconds + MARGIN_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"the load generator failed: {ended.stderr[-2000:]}")
    seen: dict[str, float] = json.loads(ended.stdout)
    return seen


def answers(port: int) -> bool:
    """Whether the API answers a request for no action, which nobody takes for a task."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/tasks", b"{}", {"Content-Type": "application/json"})
        return connection.getresponse().status in (400, 422)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
