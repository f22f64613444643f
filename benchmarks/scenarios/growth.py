"""Whether a store that has grown is slower: the same with few finished tasks in it, and with many."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.broker import RabbitMQ
from benchmarks.completion import read_only
from benchmarks.contenders.contender import Contender
from benchmarks.load.order import load
from benchmarks.plan import Plan
from benchmarks.preload import preload_finished
from benchmarks.scenarios.core import SETTLE_SECONDS, Figures, drain, post
from benchmarks.stage import Stage, stage

READ_SECONDS: Final = 30.0
PAGES: Final = {
    "first": "/tasks",
    "completed": "/tasks?status=completed",
    "failed": "/tasks?status=failed",
    "cancelled": "/tasks?status=cancelled",
}


def run_growth(contender: Contender, broker: RabbitMQ, work: Path, plan: Plan) -> dict[str, Figures]:
    """Figures by the number of rows that were there before."""
    return {str(rows): _with_rows(contender, broker, work, (rows, plan)) for rows in plan.rows_before}


def _with_rows(contender: Contender, broker: RabbitMQ, work: Path, sizes: tuple[int, Plan]) -> Figures:
    rows, plan = sizes
    with stage(contender, broker, work) as run:
        figures = {"bytes_per_task": preload_finished(run.place.database, rows)}
        run.posted = rows
        figures["api_ready_s"] = run.start_api()
        time.sleep(SETTLE_SECONDS)
        figures |= _reads(run, plan, PAGES | {"last": _last_page(run.place.database)})
        return figures | post(run, plan) | drain(run, plan)


def _last_page(database: Path) -> str:
    """The path of the page with the hundred oldest tasks, as whoever follows every `Link` comes to it."""
    with closing(read_only(database)) as connection:
        query = "SELECT accepted_at, id FROM tasks ORDER BY accepted_at, id LIMIT 1 OFFSET 100"
        before_it = connection.execute(query).fetchone()
    return f"/tasks?cursor={urlsafe_b64encode(json.dumps(before_it).encode()).decode()}"


def _reads(run: Stage, plan: Plan, pages: Mapping[str, str]) -> Figures:
    """The p99 of each page (ms), asked for over one connection."""
    figures: Figures = {}
    for page, path in pages.items():
        order = {"mode": "get", "path": path, "connections": 1, "requests": plan.reads}
        seen = load(ports=[run.place.port], seconds=READ_SECONDS, **order)
        figures |= {f"get_{page}_p50_ms": seen["p50_ms"], f"get_{page}_p99_ms": seen["p99_ms"]}
    return figures
