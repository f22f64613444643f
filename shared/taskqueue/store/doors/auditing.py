"""What an audit asks, in reads that are each short, however many rows there are."""

from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from taskqueue.store import audit
from taskqueue.store.audit import Claims, Found, Totals
from taskqueue.store.doors.door import Door
from taskqueue.store.flaws import FLAWS
from taskqueue.store.pace import Pace
from taskqueue.store.reads import newest_change
from taskqueue.store.roster import LIVE_MS
from taskqueue.store.trail import Trail

HOLD_SECONDS: Final = 0.02
CHANGES_FOLLOWED: Final = 1_000_000
"""Of the newest changes, so many are followed."""


class Auditing(Door):
    """What an audit asks. Nothing is changed by it."""

    async def totals(self, now: int) -> Totals:
        """What there is at one instant; at `now` (ms) some wait for their time."""
        return await self._read(lambda connection: audit.totals(connection, now))

    async def claims(self, now: int) -> Claims:
        """Who holds what runs, at `now` (ms)."""
        return await self._read(lambda connection: audit.claims(connection, now - LIVE_MS))

    async def queued_before(self, made_before: int) -> Found:
        """The queued tasks whose message was made before this instant (ms)."""
        return await self._read(lambda connection: audit.queued_before(connection, made_before))

    async def flaws(self, parameters: Mapping[str, int]) -> Mapping[str, Found]:
        """Every row that has one of `FLAWS`, by the flaw's name; `parameters` are theirs."""
        found = {flaw.name: Found() for flaw in FLAWS}
        pace = Pace(HOLD_SECONDS)
        after: int | None = -1
        while after is not None:
            begun, chunk = perf_counter(), {**parameters, "after": after, "size": pace.rows}
            rows, last = await self._read(partial(audit.look_for_flaws, chunk=chunk, found=found))
            after = last if rows == pace.rows else None
            pace.note(rows, perf_counter() - begun)
        return found

    async def trail(self) -> Trail:
        """What the newest changes tell that the rows do not."""
        trail = Trail()
        begin = max(0, await self._read(newest_change) - CHANGES_FOLLOWED)
        rows: Sequence[Any] = await self._read(partial(audit.trail_after, after=begin))
        while rows:
            trail.follow(rows)
            rows = await self._read(partial(audit.trail_after, after=rows[-1].seq))
        return trail

    async def double_keys(self) -> Found:
        """The tasks that share their idempotency key with another one."""
        found = Found()
        start: str | None = ""
        while start is not None:
            start = await self._read(partial(audit.look_for_double_keys, start=start, found=found))
        return found

    async def damage(self) -> Sequence[str]:
        """What SQLite finds wrong with the file, which it reads as a whole; nothing where it is sound."""
        return await self._read(audit.damage)
