"""Closed loop: each connection sends its next request when the answer to the last one is there."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import percentile
from benchmarks.load.connection import Connection

WARM_UP_REQUESTS_PER_CONNECTION = 10
GIVE_UP_SECONDS = 30.0


@dataclass
class _Tally:
    ends_at: float
    requests_left: float
    latencies: list[float] = field(default_factory=list)
    refused: int = 0


@dataclass(frozen=True)
class Load:
    """Asks over so many connections for `seconds`, or until `requests` were answered, whichever comes first."""

    connections: int
    seconds: float
    requests: float = float("inf")


async def closed_loop(ports: Sequence[int], request: bytes, wanted_status: int, size: Load) -> dict[str, float]:
    """Rates per second and latencies in ms. The warm-up is part of `warm_up`, and of nothing else."""
    connections = size.connections
    opened = [await Connection.open(ports[number % len(ports)]) for number in range(connections)]
    await asyncio.gather(*(_warm_up(connection, request) for connection in opened))
    began = time.monotonic()
    tally = _Tally(began + size.seconds, size.requests)
    await asyncio.gather(*(_ask_again_and_again(connection, request, wanted_status, tally) for connection in opened))
    took = time.monotonic() - began
    for connection in opened:
        connection.close()
    return {
        "began": began,
        "seconds": took,
        "warm_up": connections * WARM_UP_REQUESTS_PER_CONNECTION,
        "accepted": len(tally.latencies),
        "refused": tally.refused,
        "per_s": len(tally.latencies) / took,
        "p50_ms": percentile(tally.latencies, 0.50) * 1000,
        "p99_ms": percentile(tally.latencies, 0.99) * 1000,
    }


async def _warm_up(connection: Connection, request: bytes) -> None:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        for _ in range(WARM_UP_REQUESTS_PER_CONNECTION):
            await connection.ask(request)


async def _ask_again_and_again(connection: Connection, request: bytes, wanted_status: int, tally: _Tally) -> None:
    sent = time.monotonic()
    async with asyncio.timeout(tally.ends_at - sent + GIVE_UP_SECONDS):
        while sent < tally.ends_at and tally.requests_left > 0:
            tally.requests_left -= 1
            status, _ = await connection.ask(request)
            answered = time.monotonic()
            if status == wanted_status:
                tally.latencies.append(answered - sent)
            else:
                tally.refused += 1
            sent = answered
