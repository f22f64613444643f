"""What hostile clients and producers send: drawn by hypothesis, near enough to what is right to get far."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

NAMES = [
    "action", "data", "delay", "run_at", "expires_at", "timeout", "max_attempts", "priority", "tags", "tasks", "id",
    "status", "attempt", "created_at", "dispatched_at", "alone", "cron", "interval", "timezone", "missed", "paused",
    "v", "since", "until", "action ", "ACTION", "", "\u0000", "__proto__",
]  # fmt: skip
"""Members of bodies and messages, right and wrong."""

WORDS = [
    "", "sum", "uppercase", "x" * 200, "x" * 201, "\u0000", "\u2028", "\U0001f600", "pending", "queued,failed", "odd",
    "2026-01-31T12:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "* * * * *", "* * 30 2 *",
    "Europe/Berlin", "../etc/passwd", "UTC", "run", "skip", "%", "%00", "1e999", "NaN", "-1", "0", "1", "31",
    "99999999999999999999", "' OR 1=1 --", "WzFd", "[1]", "a\r\nb",
]  # fmt: skip

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 5, 9, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 1e308, 1e-308, 0.1, 10**400])
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
MEMBERS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NAMES, VALUES) | {"action": st.sampled_from(["sum", "a"]) | VALUES}
)


def _written(value: Any) -> bytes:
    """As JSON, or what passes for it in Python: NaN, infinities and lone surrogates included."""
    text: str = json.dumps(value)
    return text.encode()


_TASK: dict[str, Any] = {"action": "sum", "data": {"numbers": [1]}}
_RIGHT: list[dict[str, Any]] = [
    _TASK,
    {**_TASK, "delay": 0.5, "tags": ["a"], "priority": 5, "max_attempts": 1, "timeout": 5},
    {"tasks": [_TASK, _TASK]},
    {**_TASK, "interval": 3600},
    {**_TASK, "cron": "0 3 * * 1-5", "timezone": "Europe/Berlin"},
    {"status": "failed", "tag": "a"},
    {**_TASK, "id": "0b7e5bd6-36a4-4f0f-9f2a-0c9ad5d8a1f2", "v": 1, "attempt": 0, "dispatched_at": 1},
]


@st.composite
def _nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """What is right but for a member or two, if at all: it gets the furthest."""
    right = dict(draw(st.sampled_from(_RIGHT)))
    changes = draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2))
    if "tasks" in right and draw(st.booleans()):
        return {"tasks": [{**_TASK, **changes}]}
    return right | changes


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Something written, with a piece cut out, put in or put twice."""
    whole = _written(draw(_nearly_right()))
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, len(whole)))
    return whole[:start] + draw(st.binary(max_size=6) | st.just(whole[start:end] * 2)) + whole[end:]


_NESTED = st.integers(1, 300).map(
    lambda depth: b'{"action": "a", "data": ' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
)
_DEEP = st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b'{"action":"a","data":{"a":' + b"9" * 5_000 + b"}}"])

BODIES = (
    _nearly_right().map(_written)
    | MEMBERS.map(_written)
    | VALUES.map(_written)
    | _damaged()
    | st.binary(max_size=60)
    | _NESTED
    | _DEEP
)
"""Bodies of requests, and of messages."""


def drawn(strategy: st.SearchStrategy[bytes], number: int) -> Sequence[bytes]:
    """So many draws, for a test that cannot be run anew for each."""
    found: list[bytes] = []

    @settings(max_examples=number, phases=[Phase.generate], database=None)
    @given(strategy)
    def collect(value: bytes) -> None:
        found.append(value)

    collect()
    return found
