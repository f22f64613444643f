"""Results as Markdown tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.figures import Spread

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A column: which figure, what it is called, and whether more is better."""

    key: str
    title: str
    more_is_better: bool
    digits: int = 0


METRICS: Final = (
    Metric("post_per_s", "accepted POST/s", more_is_better=True),
    Metric("post_p99_ms", "POST p99 ms", more_is_better=False, digits=1),
    Metric("drain_per_s", "drain tasks/s", more_is_better=True),
    Metric("end_to_end_per_s", "POST→completed tasks/s", more_is_better=True),
    Metric("latency_p50_ms", "latency p50 ms", more_is_better=False, digits=1),
    Metric("latency_p99_ms", "latency p99 ms", more_is_better=False, digits=1),
    Metric("api_cpu_us_per_task", "API CPU µs/task", more_is_better=False),
    Metric("worker_cpu_us_per_task", "worker CPU µs/task", more_is_better=False),
    Metric("idle_cpu_percent", "idle CPU %", more_is_better=False, digits=2),
    Metric("resident_mb", "resident MB", more_is_better=False),
    Metric("api_ready_s", "API ready s", more_is_better=False, digits=2),
    Metric("worker_ready_s", "worker ready s", more_is_better=False, digits=2),
    Metric("others_percent", "others' load %", more_is_better=False),
)


def main_table(results: Results) -> str:
    """A row for each contender: median (least–most), and the ratio to the best peer."""
    head = ["contender", *(metric.title for metric in METRICS)]
    rows = []
    for name, facts in results["facts"].items():
        cells = [_cell(results, name, metric) for metric in METRICS]
        rows.append([f"**{facts['title']}**" if facts["kind"] == "ours" else facts["title"], *cells])
    return table(head, rows)


def spread(results: Results, name: str, key: str) -> Spread | None:
    """What the rounds say of one figure of one contender."""
    rounds = results["core"].get(name, [])
    return Spread.of([figures[key] for figures in rounds if figures.get(key) is not None])


def best_peer(results: Results, metric: Metric) -> float:
    """The best median of all peers; NaN where no peer took part."""
    peers = [name for name, facts in results["facts"].items() if facts["kind"] == "peer"]
    spreads = [found for name in peers if (found := spread(results, name, metric.key))]
    medians = [found.median for found in spreads]
    if not medians:
        return math.nan
    return max(medians) if metric.more_is_better else min(medians)


def _cell(results: Results, name: str, metric: Metric) -> str:
    found = spread(results, name, metric.key)
    if found is None:
        return "–"
    text = f"{found.median:,.{metric.digits}f}"
    if found.most > found.least:
        text += f" ({found.least:,.{metric.digits}f}–{found.most:,.{metric.digits}f})"
    best = best_peer(results, metric) if metric.key != "others_percent" else math.nan
    if results["facts"][name]["kind"] == "ours" and best > 0:
        text += f" **{found.median / best:.2f}×**"
    return text


def facts_table(results: Results) -> str:
    """What each contender does, and what it does not."""
    keys = ("api", "worker", "before_202", "message", "queue", "result")
    head = ["contender", "API", "worker", "on disk before the 202", "message", "queue", "result, before the ack"]
    return table(head, [[facts["title"], *(facts[key] for key in keys)] for facts in results["facts"].values()])


def figures_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each figure, a column for each case."""
    keys = list(dict.fromkeys(key for figures in columns.values() for key in figures))
    rows = [[key, *(_number(figures.get(key)) for figures in columns.values())] for key in keys]
    return table(["", *columns], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
