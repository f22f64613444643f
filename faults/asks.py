"""What is asked of the task queue: requests whose answers are known beforehand, drawn by a seed."""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

LINGER_SECONDS: Final = 1.0
KEYED: Final = 0.6
"""The share of requests that carry an Idempotency-Key, and so are sent again until they are accepted."""


@dataclass(frozen=True)
class Expected:
    """What must come of a task, once and for all."""

    status: str
    result: Any = None


@dataclass(frozen=True)
class Acceptance:
    """An answer of 2xx: the id that it gave, by the clock of this machine in ms."""

    task_id: str
    at: int


@dataclass
class Ask:
    """One request, under a tag of its own, and every 2xx that it was answered with."""

    tag: str
    body: bytes
    expected: Expected
    key: str | None = None
    runs: int = 0
    """How often it runs where nothing goes wrong; 0 where its action does not note that."""

    prompt: bool = True
    """Whether it can be finished at once: it neither waits, nor lingers, nor is tried again after a pause."""

    sent_at: int = 0
    """When it was sent first (ms)."""

    accepted: list[Acceptance] = field(default_factory=list)
    refusals: int = 0
    rejections: list[int] = field(default_factory=list)
    """Every 4xx that it was answered with, but for 429: none is right, since the request is."""

    unnamed: set[str] = field(default_factory=set)
    """Its tasks in the database that no answer has named: what is on disk must end, whoever knows of it."""

    @property
    def ids(self) -> set[str]:
        """The ids that it was given: one, where all is well."""
        return {acceptance.task_id for acceptance in self.accepted}

    @property
    def tasks(self) -> set[str]:
        """All that came of it, whether it was answered or not."""
        return self.ids | self.unnamed


_KINDS: Final = {
    "sum": 28,
    "uppercase": 14,
    "double": 26,
    "linger": 12,
    "stumble": 6,
    "doomed": 4,
    "later": 5,
    "high": 5,
}

_RUNS: Final = {"sum": 0, "uppercase": 0, "stumble": 2, "poison": 3}
"""Where it is not once. A poison runs twice in company, which is forgiven, and then alone (docs/adr/0010)."""


def draw(random: Random, tag: str) -> Ask:
    """A request by chance."""
    (kind,) = random.choices(list(_KINDS), list(_KINDS.values()))
    key = f"key-{tag}" if random.random() < KEYED else None
    return ask(kind, random.randrange(1_000_000), tag, key, delay=random.choice((1, 2)))


def ask(kind: str, n: int, tag: str, key: str | None = None, *, delay: int = 1) -> Ask:
    """A request of this kind, about this number."""
    twice = Expected("completed", {"output": 2 * n})
    if kind == "sum":
        return _ask(kind, {"numbers": [n, 1]}, tag, key, Expected("completed", {"output": n + 1}))
    if kind == "uppercase":
        return _ask(kind, {"text": f"n is {n}"}, tag, key, Expected("completed", {"output": f"N IS {n}"}))
    if kind == "later":
        return _ask("double", {"n": n}, tag, key, twice, delay=delay)
    if kind == "high":
        return _ask("double", {"n": n}, tag, key, twice, priority=9)
    if kind == "poison":
        return _ask(kind, {"n": n}, tag, key, Expected("failed"), max_attempts=1)
    data = {"n": n, "seconds": LINGER_SECONDS} if kind == "linger" else {"n": n}
    return _ask(kind, data, tag, key, Expected("failed") if kind == "doomed" else twice)


def _ask(action: str, data: dict[str, Any], tag: str, key: str | None, expected: Expected, **options: int) -> Ask:
    body = json.dumps({"action": action, "data": data, "tags": [tag], **options}).encode()
    prompt = action not in ("stumble", "linger", "poison") and "delay" not in options
    return Ask(tag, body, expected, key, _RUNS.get(action, 1), prompt)
