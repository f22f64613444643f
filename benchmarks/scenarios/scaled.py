"""Several processes on one file: 4 workers and 2 APIs against one of each."""

import time
from pathlib import Path
from typing import Final

from benchmarks.broker import RabbitMQ
from benchmarks.contenders.contender import Contender
from benchmarks.plan import Plan
from benchmarks.processes import free_ports
from benchmarks.scenarios.core import SETTLE_SECONDS, Figures, finish
from benchmarks.stage import stage

SHAPES: Final = ((1, 1), (2, 4))


def run_scaled(contender: Contender, broker: RabbitMQ, work: Path, plan: Plan) -> dict[str, Figures]:
    """Tasks per second from POST to completed, by the number of APIs and workers."""
    return {f"{apis} + {workers}": _shape(contender, broker, work, (apis, workers, plan)) for apis, workers in SHAPES}


def _shape(contender: Contender, broker: RabbitMQ, work: Path, shape: tuple[int, int, Plan]) -> Figures:
    apis, workers, plan = shape
    with stage(contender, broker, work) as run:
        ports = list(free_ports(apis))
        for port in ports:
            run.start_api(port)
        for _ in range(workers):
            run.start_worker()
        time.sleep(SETTLE_SECONDS * 2)
        seen = run.post(ports=ports, connections=plan.connections, seconds=plan.scaled_seconds)
        unfinished = finish(run)["unfinished"]
        took = time.monotonic() - seen["began"]
        done = seen["accepted"] - unfinished
        locked = run.log().count("database is locked")
        figures = {"end_to_end_per_s": done / took, "post_per_s": seen["per_s"], "post_p99_ms": seen["p99_ms"]}
        return figures | {"unfinished": unfinished, "refused": seen["refused"], "database_is_locked": locked}
