"""One history from its seed: processes start, clients ask, faults come, all is calm again, and all must be right."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from taskqueue.audit import Auditor
from taskqueue.clock import milliseconds
from taskqueue.schema import FINAL
from taskqueue_worker.settings import WorkSettings
from tests.simulation import clients, faults
from tests.simulation.chance import Chance
from tests.simulation.clients import Submission
from tests.simulation.database import Database, SimulatedStore
from tests.simulation.loop import Restless, VirtualLoop
from tests.simulation.observer import Broken, Observer
from tests.simulation.processes import LEASES, MAX_ATTEMPTS, Process, Role, World
from tests.simulation.seams import Log, in_the_place_of_the_world
from tests.simulation.server import Server
from tests.simulation.trace import Trace
from tests.simulation.verdict import judge

START: Final = 1_800_000_000_000
DEADLINE_SECONDS: Final = 600.0
"""When all must have ended that was accepted: leases, backoffs and searches come one after the other at worst."""

AFTERMATH_SECONDS: Final = 5.0
"""How long it goes on then: what comes late must change nothing."""

TOLD_LINES: Final = 60


@dataclass(frozen=True)
class Outcome:
    """What came of a history. `broken` is the promise that was not kept; `digest` is the same for the same history."""

    seed: int
    digest: str
    tasks: int
    faults: int
    broken: str | None
    story: Sequence[str]

    def report(self) -> str:
        """For whoever has to find out why."""
        return "\n".join((f"seed {self.seed}: {self.broken}", *self.story))


def run(seed: int, database: Database) -> Outcome:
    """Plays the history of this seed."""
    with in_the_place_of_the_world(seed) as log:
        return _played(seed, database, log)


def _played(seed: int, database: Database, log: Log) -> Outcome:
    world = _made(seed, database)
    log.trace = world.trace
    submissions = clients.drawn(world.chance, world.clock)
    broken: Broken | Restless | None = None
    try:
        world.loop.play(_play_to_its_end(world, submissions))
        judge(database, world.observer, submissions, world.loop.complaints)
    except (Broken, Restless) as error:
        broken = error
    story = world.trace.about(getattr(broken, "task_id", None), TOLD_LINES) if broken else ()
    tasks = len(world.observer.rows)
    return Outcome(seed, world.trace.digest, tasks, world.chance.harm, str(broken) if broken else None, story)


def _made(seed: int, database: Database) -> World:
    chance = Chance(seed)
    loop = VirtualLoop(chance.draws.random, chance.latency)

    def clock() -> int:
        return START + milliseconds(loop.time())

    database.empty()
    trace = Trace(loop.time)
    observer = Observer(database.rows, clock, trace, MAX_ATTEMPTS)
    server = Server(loop, chance, observer, trace, clock)
    return World(loop, chance, trace, observer, database, server, clock, _settings(chance))


def _settings(chance: Chance) -> WorkSettings:
    chosen = {
        "channels": 1 + int(chance.between(0, 2)),
        "prefetch_count": 1 + int(chance.between(0, 3)),
        "lease_seconds": LEASES[int(chance.between(0, len(LEASES)))],
        "task_timeout_seconds": 20.0,
        "shutdown_grace_seconds": chance.between(0.5, 6),
        "max_attempts": MAX_ATTEMPTS,
    }
    return WorkSettings.model_construct(**(_defaults() | chosen))


@cache
def _defaults() -> dict[str, Any]:
    return WorkSettings().model_dump()


async def _play_to_its_end(world: World, submissions: Sequence[Submission]) -> None:
    try:
        await _play(world, submissions)
    finally:
        world.trace.ended = True


async def _play(world: World, submissions: Sequence[Submission]) -> None:
    processes = _processes(world)
    store = SimulatedStore(world.database, world.chance, world.observer, world.trace, world.clock)
    auditor = Auditor(store, world.server.queue, world.clock, MAX_ATTEMPTS)
    for process in processes:
        process.start()
    asking = [world.loop.create_task(clients.submit(world, processes, wish)) for wish in submissions]
    await faults.inject(world, processes)
    world.chance.calm = True
    world.trace.note("calm")
    await _rest(world, processes, asking)
    for task in asking:
        task.result()
    for check in (await auditor.report(integrity=True)).checks:
        if check.verdict == "fail":
            raise Broken(f"the audit balances, and not: {check.finding}")


async def _rest(world: World, processes: Sequence[Process], asking: Sequence[asyncio.Task[None]]) -> None:
    """Returns when nothing has been left to do for a while. Raises Broken where that does not come about."""
    deadline = world.loop.time() + DEADLINE_SECONDS
    rests_since = world.loop.time()
    while world.loop.time() < rests_since + AFTERMATH_SECONDS:
        await asyncio.sleep(0.5)
        if world.observer.broken is not None:
            raise world.observer.broken
        at_work = not all(task.done() for task in asking) or any(process.lane.stalled for process in processes)
        if at_work or _left(world) or world.server.queue.held:
            rests_since = world.loop.time()
        if world.loop.time() > deadline:
            raise _unrest(world)


def _processes(world: World) -> Sequence[Process]:
    if world.chance.likely(0.2):
        return [Process(world, Role.EMBEDDED, 1)]
    roles = [Role.API] * (1 + world.chance.likely(0.4)) + [Role.WORKER] * (1 + world.chance.likely(0.7))
    return [Process(world, role, number) for number, role in enumerate(roles, 1)]


def _left(world: World) -> Sequence[str]:
    return [task_id for task_id, row in world.observer.rows.items() if row.status not in FINAL]


def _unrest(world: World) -> Broken:
    left = _left(world)
    if left:
        return Broken("every task comes to an end", left[0])
    return Broken("every message is settled in the end")
