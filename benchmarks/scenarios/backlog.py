"""Whether a long queue costs a worker memory: it is looked at while it works through many tasks."""

import time
from pathlib import Path
from typing import Final

from benchmarks.broker import RabbitMQ
from benchmarks.contenders.contender import Contender
from benchmarks.plan import Plan
from benchmarks.scenarios.core import DISPATCH_SECONDS, SETTLE_SECONDS, Figures
from benchmarks.stage import stage

WARM_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.25
FILL_SECONDS: Final = 300.0


def run_backlog(contender: Contender, broker: RabbitMQ, work: Path, plan: Plan) -> Figures:
    """The worker's memory (MB): when it is warm, and the most it ever held."""
    with stage(contender, broker, work) as run:
        run.start_api()
        time.sleep(SETTLE_SECONDS)
        run.post(connections=plan.connections, seconds=FILL_SECONDS, requests=plan.backlog)
        give_up = time.monotonic() + DISPATCH_SECONDS
        while run.completion().undispatched() and time.monotonic() < give_up:
            time.sleep(LOOK_SECONDS)
        worker = run.start_worker()
        if worker is None:
            return {}
        time.sleep(WARM_SECONDS)
        resident = [worker.resident_mb()]
        while run.completion().finished() < run.posted and time.monotonic() < worker.began + plan.backlog_seconds:
            time.sleep(LOOK_SECONDS)
            resident.append(worker.resident_mb())
        finished = run.completion().finished()
        return {"queued": run.posted, "finished": finished, "warm_mb": resident[0], "most_mb": max(resident)}
