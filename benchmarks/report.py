"""The report: a Markdown file and, beside it, a chart. What was written by hand between the markers stays."""

from pathlib import Path
from typing import Any, Final

from benchmarks.chart import bar_chart
from benchmarks.tables import METRICS, Results, facts_table, figures_table, main_table, spread, table

BY_HAND: Final = "<!-- by hand: a rerun keeps what is between this line and the next one like it -->"
TO_BE_WRITTEN: Final = "\n_To be written._\n"
METHOD: Final = Path(__file__).with_name("method.md")
CHARTED: Final = ("post_per_s", "drain_per_s", "end_to_end_per_s")


def write_report(results: Results, report: Path) -> str:
    """Writes `report`, and the chart under the same name with `.svg`; answers the main table."""
    by_hand = _by_hand(report)
    chart = report.with_suffix(".svg")
    chart.write_text(bar_chart(*_bars(results)))
    parts = [
        "# Benchmarks",
        _intro(results),
        *_main(results, chart.name),
        *_details(results),
        METHOD.read_text().strip(),
    ]
    parts += ["## Where we lose, and why", f"{BY_HAND}{by_hand}{BY_HAND}"]
    report.write_text("\n\n".join(parts) + "\n")
    return main_table(results) if "core" in results else ""


def _by_hand(report: Path) -> str:
    pieces = report.read_text().split(BY_HAND) if report.exists() else []
    return pieces[1] if len(pieces) == 3 else TO_BE_WRITTEN


def _bars(results: Results) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    facts = results["facts"]
    groups: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        if metric.key in CHARTED and "core" in results:
            found = {facts[name]["title"]: spread(results, name, metric.key) for name in facts}
            groups[metric.title] = {title: each.median for title, each in found.items() if each}
    return groups, {each["title"]: each["kind"] for each in facts.values()}


def _intro(results: Results) -> str:
    rounds = results["plan"]["rounds"]
    return (
        f"Measured on {results['when']} with the plan `{results['plan_name']}`: {rounds} interleaved round"
        f"{'s' if rounds > 1 else ''}, median (least–most). × is the ratio to the best peer's median in this run; the "
        "naive port is no peer. Compare figures within a run only."
    )


def _main(results: Results, chart: str) -> list[str]:
    if "core" not in results:
        return []
    guarantees = ["## What each contender does", facts_table(results)]
    return ["## Results", main_table(results), f"![The rates as bars]({chart})", *guarantees]


def _details(results: Results) -> list[str]:
    parts: list[str] = []
    if growth := results.get("growth"):
        parts += ["## Growth: ours, by finished tasks in the store before", figures_table(growth)]
    if backlog := results.get("backlog"):
        parts += ["## A long queue: the worker's memory", figures_table({"ours": backlog})]
    if scaled := results.get("scaled"):
        parts += ["## Several processes on one file: APIs + workers", figures_table(scaled)]
    if limits := results.get("limits"):
        parts += _limits(limits)
    return [*parts, "## Machine and versions", _pairs(results["machine"]), _pairs(results["versions"])]


def _limits(limits: dict[str, Any]) -> list[str]:
    http = limits["http"]
    return [
        "## Limits",
        f"Bare aiohttp on uvloop, same POST, no work: {http['per_s']:,.0f} POST/s, p99 {http['p99_ms']:.1f} ms.",
        "Rows per second, by rows in a commit (ours: by callers at once):",
        figures_table(limits["commits"]),
        "Messages per second, quorum queue:",
        figures_table(limits["messages"]),
    ]


def _pairs(pairs: dict[str, Any]) -> str:
    return table(["", ""], [[name.replace("_", " "), str(value)] for name, value in pairs.items()])
