"""The scenarios that every contender runs, one after the other on one stage: post, drain, end to end, latency, idle."""

import math
import time
from typing import Final

from benchmarks.load.order import load
from benchmarks.plan import Plan
from benchmarks.preload import preload_queued
from benchmarks.stage import Stage

DISPATCH_SECONDS: Final = 60.0
FINISH_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 1.0

Figures = dict[str, float]


def run_core(stage: Stage, plan: Plan) -> Figures:
    """All five, and how long the processes took to be ready."""
    figures = {"api_ready_s": stage.start_api()}
    time.sleep(SETTLE_SECONDS)  # until its connection to the broker is there
    figures |= post(stage, plan)
    figures |= drain(stage, plan) if stage.contender.worker else resume(stage, plan)
    figures |= end_to_end(stage, plan)
    figures |= latency(stage, plan)
    return figures | idle(stage, plan)


def post(stage: Stage, plan: Plan) -> Figures:
    """Accepted POSTs per second; no worker is at work, unless it lives in the API's process.

    Then how long it takes, after the last answer, until the broker has all of them (s).
    """
    seen = stage.post(connections=plan.connections, seconds=plan.post_seconds)
    ended = time.monotonic()
    while stage.completion().undispatched() and time.monotonic() < ended + DISPATCH_SECONDS:
        time.sleep(0.02)
    return {
        "post_per_s": seen["per_s"],
        "post_p50_ms": seen["p50_ms"],
        "post_p99_ms": seen["p99_ms"],
        "post_refused": seen["refused"],
        "dispatch_lag_s": time.monotonic() - ended,
    }


def drain(stage: Stage, plan: Plan) -> Figures:
    """Finished tasks per second, of those that wait when the worker starts: from the first to the last seen."""
    before = stage.completion().finished()
    worker = stage.start_worker()
    seen = stage.watch(within=plan.drain_seconds)
    working = [moment for moment in seen if moment[1] > before]
    figures = {"drain_per_s": rate(working)}
    if worker is not None and working:
        figures["worker_ready_s"] = working[0][0] - worker.began
    return figures | finish(stage)


def resume(stage: Stage, plan: Plan) -> Figures:
    """The same for embedded mode: it starts anew, and finds as many tasks in its file as it has just accepted."""
    finish(stage)
    stage.stop()
    waiting = stage.posted
    preload_queued(stage.place.database, waiting)
    stage.posted += waiting
    stage.start_api()
    seen = stage.watch(within=plan.drain_seconds)
    return {"drain_per_s": rate([moment for moment in seen if moment[1] > waiting])} | finish(stage)


def end_to_end(stage: Stage, plan: Plan) -> Figures:
    """Tasks per second from the first POST until the last one is finished, with API and worker at work.

    Also the processor time of each task (µs), which other work on the machine disturbs less.
    """
    before = stage.posted
    used = [process.cpu_seconds() for process in stage.processes]
    seen = stage.post(connections=plan.connections, seconds=plan.end_to_end_seconds)
    figures = finish(stage)
    took = time.monotonic() - seen["began"]
    done = stage.posted - before - seen["warm_up"] if not figures["unfinished"] else math.nan
    costs = [process.cpu_seconds() - then for process, then in zip(stage.processes, used, strict=True)]
    by_role = zip(("api_cpu_us_per_task", "worker_cpu_us_per_task"), costs, strict=False)
    return {
        "end_to_end_per_s": done / took,
        "unfinished_end_to_end": figures["unfinished"],
        **{role: 1e6 * cost / (stage.posted - before) for role, cost in by_role},
    }


def latency(stage: Stage, plan: Plan) -> Figures:
    """From POST to completed (ms), at a rate that leaves everybody time to spare."""
    order = {"mode": "paced", "database": str(stage.place.database), "layout": stage.contender.layout}
    seen = load(ports=[stage.place.port], per_second=plan.latency_rate, seconds=plan.latency_seconds, **order)
    return {"latency_p50_ms": seen["p50_ms"], "latency_p99_ms": seen["p99_ms"], "latency_lost": seen["lost"]}


def idle(stage: Stage, plan: Plan) -> Figures:
    """What the processes use while nothing is to be done: percent of one core, and MB."""
    time.sleep(SETTLE_SECONDS)
    before = sum(process.cpu_seconds() for process in stage.processes)
    time.sleep(plan.idle_seconds)
    used = sum(process.cpu_seconds() for process in stage.processes) - before
    resident = sum(process.resident_mb() for process in stage.processes)
    return {"idle_cpu_percent": 100 * used / plan.idle_seconds, "resident_mb": resident}


def finish(stage: Stage) -> Figures:
    """Waits, within bounds, until nothing is left to do."""
    seen = stage.watch(within=FINISH_SECONDS)
    return {"unfinished": max(0, stage.posted - seen[-1][1])}


def rate(seen: list[tuple[float, int]]) -> float:
    """Tasks per second between the first look and the one that first saw the last count; NaN where nothing moved."""
    if not seen or seen[-1][1] == seen[0][1]:
        return math.nan
    end = next(moment for moment in seen if moment[1] == seen[-1][1])
    return (end[1] - seen[0][1]) / (end[0] - seen[0][0])
