"""Reading tasks back over HTTP, as any client would, until they are final or time is up."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

FINAL: Final = frozenset({"completed", "failed", "cancelled"})
AT_ONCE: Final = 16
POLL_SECONDS: Final = 0.3
READ_SECONDS: Final = 120.0
AUDIT: Final = ClientTimeout(total=30)


@dataclass(frozen=True)
class Seen:
    """A task as it was shown. The instants are in ms: when each attempt began, and when the last one ended."""

    status: str
    result: Any = None
    attempts: int = 1
    outcomes: tuple[str | None, ...] = ("completed",)
    begun: tuple[int, ...] = ()
    ended_at: int = 0

    @property
    def final(self) -> bool:
        """Whether it must never change again."""
        return self.status in FINAL


class Reader:
    """Reads from whatever API answers."""

    def __init__(self, session: ClientSession, urls: Callable[[], Sequence[str]]) -> None:
        self._session = session
        self._urls = urls

    async def finals(self, ids: Iterable[str], deadline: float) -> dict[str, Seen]:
        """Each task as first seen final; as it was last seen, or left out, where it is not so by `deadline`."""
        seen: dict[str, Seen] = {}
        waiting = set(ids)
        while waiting:
            seen |= await self.all(waiting, deadline)
            waiting = {task_id for task_id in waiting if task_id not in seen or not seen[task_id].final}
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS if waiting else 0)
        return seen

    async def all(self, ids: Iterable[str], deadline: float | None = None) -> dict[str, Seen]:
        """Each task as it is now, where there is one and an API that says so, by `deadline` (else within 2 minutes)."""
        room = asyncio.Semaphore(AT_ONCE)
        ends_at = time.monotonic() + READ_SECONDS if deadline is None else deadline

        async def one(task_id: str) -> tuple[str, Seen | None]:
            async with room:
                return task_id, await self._task(task_id) if time.monotonic() < ends_at else None

        return {task_id: seen for task_id, seen in await asyncio.gather(*map(one, ids)) if seen}

    async def audit(self) -> list[str]:
        """What the service's own auditor finds wrong, a sentence each."""
        for url in self._urls():
            try:
                async with self._session.get(f"{url}/audit", timeout=AUDIT) as answer:
                    if answer.status == 200:
                        checks = (await answer.json())["checks"]
                        return [_finding(check) for check in checks if check["verdict"] == "fail"]
            except (ClientError, OSError, TimeoutError):
                continue
        return ["GET /audit is not answered"]

    async def _task(self, task_id: str) -> Seen | None:
        for url in self._urls():
            try:
                async with self._session.get(f"{url}/tasks/{task_id}", timeout=ClientTimeout(total=10)) as answer:
                    if answer.status == 200:
                        return _seen(await answer.json())
            except (ClientError, OSError, TimeoutError):
                continue
        return None


def _finding(check: Mapping[str, Any]) -> str:
    return (
        f"GET /audit, {check['invariant']}, {check['name']}: {check['finding']} {' '.join(check['ids'][:5])}".rstrip()
    )


def _seen(task: Mapping[str, Any]) -> Seen:
    history = task["history"]
    return Seen(
        task["status"],
        task["result"],
        task["attempts"],
        tuple(attempt["outcome"] for attempt in history),
        tuple(attempt["started_at"] for attempt in history),
        max((attempt["ended_at"] or 0 for attempt in history), default=0),
    )
