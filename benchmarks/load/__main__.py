"""The load generator, a process of its own: `python -m benchmarks.load '{"mode": …}'` prints what it saw as JSON."""

import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.completion import LAYOUTS, Completion
from benchmarks.load.closed import Load, closed_loop
from benchmarks.load.connection import get, post
from benchmarks.load.order import BODY
from benchmarks.load.paced import Pace, paced


def main() -> None:
    """Runs the one load that the first argument describes."""
    order = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run(_load(**order))))


def _load(*, mode: str, ports: list[int], **order: Any) -> Coroutine[Any, Any, dict[str, float]]:
    if mode == "post":
        return closed_loop(ports, post(BODY), 202, Load(**order))
    if mode == "get":
        return closed_loop(ports, get(order.pop("path")), 200, Load(**order))
    completion = Completion(Path(order.pop("database")), LAYOUTS[order.pop("layout")])
    return paced(ports[0], post(BODY), completion, Pace(**order))


main()
