"""`python -m benchmarks`: measures, and writes a report; see `make bench`, which makes the environments first."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.broker import running_rabbitmq
from benchmarks.contenders.catalogue import catalogue
from benchmarks.environments import Environments
from benchmarks.machine import describe, versions
from benchmarks.plan import PLANS
from benchmarks.progress import progress_bar
from benchmarks.report import write_report
from benchmarks.rounds import Bench, run_steps

RESULTS = Path("benchmarks/results")
PACKAGES = {
    "ours": ("aiohttp", "aio-pika", "aiormq", "aiosqlite", "pysqlite3", "SQLAlchemy", "pydantic", "uvloop"),
    "peers": ("celery", "kombu", "taskiq", "taskiq-aio-pika", "faststream", "dramatiq", "pika", "fastapi", "uvicorn"),
}


def main() -> None:
    """Runs what the command line asks for; exits with 1 where a step failed."""
    arguments = _parser().parse_args()
    work = RESULTS / "work"
    work.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{arguments.plan}"
    results = _measure(arguments, work.resolve(), RESULTS / f"{name}.json")
    print(write_report(results, arguments.report))
    if results.get("failures"):
        raise SystemExit(1)


def _measure(arguments: argparse.Namespace, work: Path, keep: Path) -> dict[str, Any]:
    environments = Environments(
        **{name: python for name, python in vars(arguments).items() if name in vars(Environments()) and python}
    )
    contenders = [
        each
        for each in catalogue(environments, arguments.peers_synchronous)
        if not arguments.only or each.name in arguments.only.split(",")
    ]
    results: dict[str, Any] = {"when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "plan_name": arguments.plan}
    results["machine"] = describe(work)
    results["facts"] = {each.name: {"title": each.title, "kind": each.kind} | vars(each.facts) for each in contenders}
    with running_rabbitmq() as broker:
        results["versions"] = {"RabbitMQ": broker.version()}
        for kind, packages in PACKAGES.items():
            results["versions"] |= versions(getattr(environments, kind), packages)
        bench = Bench(contenders, environments, broker, work, PLANS[arguments.plan])
        scenarios = arguments.scenarios.split(",") if arguments.scenarios else bench.plan.scenarios
        steps = bench.steps(scenarios, results)
        with progress_bar(len(steps)) as progress:
            run_steps(steps, progress, results, keep)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--plan", choices=PLANS, default="full", help="how much is measured")
    parser.add_argument("--only", default="", help="contenders, by name, separated by commas")
    parser.add_argument("--scenarios", default="", help="scenarios, separated by commas; else the plan's")
    parser.add_argument("--ours", default="", help="the Python of API, worker and naive port")
    parser.add_argument("--embedded", default="", help="the Python of embedded mode")
    parser.add_argument("--peers", default="", help="the Python of the peers")
    parser.add_argument(
        "--peers-synchronous", choices=["NORMAL", "FULL"], default="NORMAL", help="how peers keep their results"
    )
    parser.add_argument("--report", type=Path, default=RESULTS / "report.md", help="the file to write")
    return parser


if __name__ == "__main__":
    main()
