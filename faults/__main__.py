"""`python -m faults`: does harm to a running task queue, and counts what became of every task; see `make faults`."""

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from aiohttp import ClientSession, TCPConnector

from faults.catalogue import broker, database, messages, network, process, services, storm
from faults.report import HEAD, line, summary
from faults.rounds import Outcome, Rounds
from faults.scene import System
from faults.schedule import Fault, schedule
from faults.single import SingleProcess
from faults.stack import ComposeStack

ON_COMPOSE = (
    *services.FAULTS,
    *network.FAULTS,
    *broker.FAULTS,
    *database.FAULTS,
    *messages.FAULTS,
    *storm.FAULTS,
)
ON_PROCESSES = process.FAULTS


def main() -> None:
    """Runs what the command line asks for; exits with 1 where anything was lost, recorded twice, or otherwise wrong."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kind = arguments.system if arguments.system != "auto" else _best_system()
    faults = _chosen(ON_COMPOSE if kind == "compose" else ON_PROCESSES, arguments.only)
    if arguments.list:
        print(*(fault.name for fault in faults), sep="\n")
        return
    system: System = ComposeStack(faults) if kind == "compose" else SingleProcess(faults)
    try:
        print(f"  starts {kind}", file=sys.stderr, flush=True)
        system.up()
        clean = asyncio.run(_play(system, arguments))
    finally:
        _take_down(system, arguments.logs)
    sys.exit(0 if clean else 1)


def _take_down(system: System, logs: Path | None) -> None:
    """Leaves nothing behind; a second signal does not keep it from that. It is bounded in time."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        if logs:
            logs.write_text(system.logs())
    finally:
        system.down()


async def _play(system: System, arguments: argparse.Namespace) -> bool:
    print(f"seed {arguments.seed}, on {system.name}\n{HEAD}", flush=True)
    ends_at = time.monotonic() + arguments.minutes * 60
    outcomes: list[Outcome] = []
    async with ClientSession(connector=TCPConnector(limit=200)) as session:
        rounds = Rounds(system, session, arguments.rate, arguments.quiet)
        for one in islice(schedule(system.faults, arguments.seed), arguments.rounds or len(system.faults)):
            if time.monotonic() > ends_at:
                print("  the time is up", file=sys.stderr, flush=True)
                break
            outcomes.append(await rounds.play(one))
            print(line(outcomes[-1]), flush=True)
        changed = await rounds.changed_since()
    print(summary(outcomes, changed, system.name, arguments.seed), flush=True)
    return not changed and bool(outcomes) and all(one.verdict.clean and one.verdict.accepted for one in outcomes)


def _best_system() -> str:
    try:
        works = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if not works:
        print("No Docker engine answers: the faults of one process over a SQLite file it is.", flush=True)
    return "compose" if works else "processes"


def _chosen(faults: Sequence[Fault], only: str) -> Sequence[Fault]:
    names = [name for name in only.split(",") if name]
    known = {fault.name: fault for fault in faults}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no fault {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names] or faults


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="the same seed, the same faults")
    parser.add_argument("--minutes", type=float, default=30, help="after so many no further fault begins (30)")
    parser.add_argument("--rounds", type=int, default=0, help="how many faults; else each that there is, once")
    parser.add_argument("--system", choices=["auto", "compose", "processes"], default="auto", help="what is harmed")
    parser.add_argument("--only", default="", help="faults, by name, separated by commas")
    parser.add_argument("--rate", type=float, default=25, help="tasks posted a second (25)")
    parser.add_argument("--quiet", type=float, default=90, help="seconds in which all must be done after a fault (90)")
    parser.add_argument("--logs", type=Path, help="a file to keep the services' logs in")
    parser.add_argument("--list", action="store_true", help="name the faults that there are, and end")
    return parser


if __name__ == "__main__":
    main()
