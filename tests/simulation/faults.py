"""What is done to the processes and to the broker of a history, at drawn times."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.processes import Process, Role, World

FAULTY_SECONDS: Final = 10.0


async def inject(world: World, processes: Sequence[Process]) -> None:
    """Does harm for a while, and returns when it has done enough."""
    chance, loop = world.chance, world.loop
    kinds = _kinds(world, processes)
    chosen = [kind for kind in kinds if chance.likely(0.5)]
    pause = chance.between(0.2, 4)
    until = loop.time() + FAULTY_SECONDS
    while loop.time() < until:
        await asyncio.sleep(chance.between(0, 2 * pause))
        if chosen:
            chance.harm += 1
            chosen[int(chance.between(0, len(chosen)))]()


def _kinds(world: World, processes: Sequence[Process]) -> Sequence[Callable[[], None]]:
    chance, server = world.chance, world.server

    def one() -> Process:
        return processes[int(chance.between(0, len(processes)))]

    def lose_one() -> None:
        world.trace.note("a message is lost")
        server.later(0, server.queue.lose_one, chance.draws.random())

    def lose_all() -> None:
        world.trace.note("all messages are lost")
        server.later(0, server.queue.lose_all)

    def turn_round() -> None:
        world.trace.note("the queue is turned round")
        server.later(0, server.queue.turn_round)

    to_processes = [
        lambda: one().kill(),
        lambda: one().stop(),
        lambda: one().stall(chance.between(0.2, 5)),
        lambda: one().stall(chance.between(5, 20)),
    ]
    if all(process.role is Role.EMBEDDED for process in processes):
        return to_processes
    return [
        *to_processes,
        lambda: one().cut(chance.between(0.1, 9)),
        lambda: server.go_down(chance.between(0.2, 9), wiped=chance.likely(0.5)),
        lose_one,
        lose_all,
        turn_round,
    ]
