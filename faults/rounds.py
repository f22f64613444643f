"""One round: a load, a fault in the middle of it, quiescence, and the audit of everything."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from aiohttp import ClientSession

from faults.asks import Ask
from faults.checker import Evidence, Stored, Verdict, judge
from faults.commands import CommandFailed
from faults.load import Load, now
from faults.reading import Reader, Seen
from faults.recovery import recovered, slow_answer
from faults.scene import Scene, System
from faults.schedule import Round

BEFORE_SECONDS: Final = 1.5
AFTER_SECONDS: Final = 1.0
BURIED_SECONDS: Final = 15.0
STRIKE_SECONDS: Final = 240.0
"""What a fault may take to strike, and to heal, in all: the start of a container is in it."""


@dataclass(frozen=True)
class Outcome:
    """What came of a round. `recovered` is in seconds; None where nothing had to recover.

    `slow_answer` is how long a slow 2xx took (the 99th of a hundred), in seconds.
    """

    round: Round
    struck: str
    verdict: Verdict
    recovered: float | None
    slow_answer: float | None = None


@dataclass
class Rounds:
    """Plays rounds against one system, and remembers what was asked: all of it must stay true to the end."""

    system: System
    session: ClientSession
    per_second: float
    quiet_within: float
    """Seconds in which everything must be final after a fault has healed."""

    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    _began: float = field(default_factory=time.monotonic)
    _asks: list[Ask] = field(default_factory=list)
    _finals: dict[str, Seen] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    async def play(self, one: Round) -> Outcome:
        """Plays one round. It is bounded in time; what does not end in time counts as lost."""
        load = Load(self.session, self.system.urls, one.seed, f"round-{one.number}")
        scene = Scene(self.system, load, Random(one.seed))
        self._progress(one, "load")
        async with load.running(self.per_second):
            await asyncio.sleep(BEFORE_SECONDS)
            await asyncio.wait_for(self._suffer(one, scene), STRIKE_SECONDS + one.held)
            healed = now()
            await asyncio.sleep(AFTER_SECONDS)
        return await self._audit(one, scene, healed)

    async def changed_since(self) -> Sequence[str]:
        """Reads all of it once more: what is final now must be what it was when it was final first."""
        later = await self._reader.all(self._finals)
        return [
            f"{task_id} was final, and changed: from {seen} to {later.get(task_id)}"
            for task_id, seen in self._finals.items()
            if later.get(task_id) != seen
        ]

    async def _suffer(self, one: Round, scene: Scene[Any]) -> None:
        happening = one.fault.happening(scene)
        self._progress(one, f"strikes, for {one.held:g} s")
        scene.strike()
        try:
            await asyncio.to_thread(happening.__enter__)
            await asyncio.sleep(one.held)
            self._progress(one, "heals")
            await asyncio.to_thread(happening.__exit__, None, None, None)
        except (CommandFailed, TimeoutError) as error:
            scene.failures.append(f"the fault could not be carried out: {error}")

    async def _audit(self, one: Round, scene: Scene[Any], healed: int) -> Outcome:
        self._progress(one, "waits until all is done")
        ids = {task_id for ask in scene.load.asks for task_id in ask.ids}
        first = await self._reader.finals(ids, time.monotonic() + self.quiet_within)
        self._progress(one, f"audits {len(ids)} tasks")
        buried = await self._buried(scene)
        stored = await asyncio.to_thread(self.system.stored)
        if unnamed := _unnamed(scene.load.asks, stored):
            first |= await self._reader.finals(unnamed, time.monotonic() + self.quiet_within)
            stored = await asyncio.to_thread(self.system.stored)
        runs = self.system.runs()
        scene.failures += await self._reader.audit()
        later = await self._reader.all(ids | unnamed)
        verdict = judge(
            Evidence(
                scene.load.asks, first, later, stored, runs, scene.malformed, buried, scene.failures, list(self._asks)
            )
        )
        self._asks += scene.load.asks
        self._finals |= {task_id: seen for task_id, seen in first.items() if seen.final}
        recovery = recovered(one.fault.recovery, scene, first, healed)
        return Outcome(one, scene.struck, self._news(verdict), recovery, slow_answer(scene.load.asks))

    async def _buried(self, scene: Scene[Any]) -> Sequence[bytes]:
        """What is in the dead-letter queue; it is waited for, where something must be."""
        buried: list[bytes] = []
        deadline = time.monotonic() + BURIED_SECONDS
        while True:
            buried += await asyncio.to_thread(self.system.buried)
            if len(buried) >= len(scene.malformed) or time.monotonic() > deadline:
                return buried
            await asyncio.sleep(0.5)

    def _news(self, verdict: Verdict) -> Verdict:
        """Without what was said in an earlier round: the database and the log of runs hold it still."""
        fresh: Mapping[str, list[str]] = {
            name: [sentence for sentence in getattr(verdict, name) if sentence not in self._told]
            for name in ("lost", "twice", "unexpected")
        }
        self._told.update(*fresh.values())
        return Verdict(verdict.accepted, verdict.unanswered, run_twice=verdict.run_twice, **fresh)

    @property
    def _reader(self) -> Reader:
        return Reader(self.session, self.system.urls)

    def _progress(self, one: Round, step: str) -> None:
        self.say(f"  {time.monotonic() - self._began:5.0f} s  round {one.number}, {one.fault.name}: {step}")


def _unnamed(asks: Sequence[Ask], stored: Stored) -> set[str]:
    """Notes what came of requests whose answers were lost; answers the ids of it all."""
    by_tag = {ask.tag: ask for ask in asks if ask.tag}
    for row in stored.rows:
        for ask in (by_tag[tag] for tag in row.tags if tag in by_tag):
            ask.unnamed |= {row.id} - ask.ids
    return {task_id for ask in asks for task_id in ask.unnamed}
