"""Settling: what came of an attempt, as a batched write that only the current attempt may make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, and_, case, null, update

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.guards import is_running_as
from taskqueue.store.history import appended
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import tasks


@dataclass(frozen=True)
class Settlement:
    """What came of an attempt at `now` (ms). `due_at` (ms) where it goes back to `pending`.

    `entry` is what its history keeps of it. One that would go back, and was called off meanwhile, becomes `cancelled`.
    """

    id: str
    attempt: int
    status: TaskStatus
    result: str | None = None
    error: str | None = None
    due_at: int | None = None
    now: int = 0
    handed_back: bool = False
    entry: str | None = None


_settlements = Batch("id", "attempt", "status", "result", "error", "due_at", "now", "now_s", "handed_back", "entry")
_GOES_BACK = _settlements["status"] == TaskStatus.PENDING
_CALLED_OFF = and_(_GOES_BACK, tasks.c.cancel_requested_at.is_not(None))
_WAITS = and_(_GOES_BACK, tasks.c.cancel_requested_at.is_(None))
_SETTLE = BatchWrite(
    update(tasks)
    .where(is_running_as(_settlements))
    .values(
        status=case((_CALLED_OFF, TaskStatus.CANCELLED.value), else_=_settlements["status"]),
        result=_settlements["result"],
        # A hand-back is no failure, and leaves what the last one said.
        error=case((_settlements["handed_back"] == 1, tasks.c.error), else_=_settlements["error"]),
        due_at=case((_WAITS, _settlements["due_at"]), else_=null()),
        processed_at=case((_WAITS, null()), else_=_settlements["now_s"]),
        ended_at=case((_WAITS, null()), else_=_settlements["now"]),
        forgiven=tasks.c.forgiven + _settlements["handed_back"],
        history=case((_settlements["entry"].is_(None), tasks.c.history), else_=appended(_settlements["entry"])),
        cancel_requested_at=None,
    )
    .returning(tasks.c.id, tasks.c.attempt, tasks.c.status)
)


def settle(connection: Connection, items: Sequence[Settlement]) -> Sequence[TaskStatus | None]:
    """Records outcomes, and answers what became of their tasks; None where the attempt is no longer the current one."""
    # Of two outcomes of one attempt, the first counts.
    firsts = {(item.id, item.attempt): item for item in reversed(items)}
    rows = _SETTLE.run(connection, (_settled(item) for item in firsts.values()))
    note(connection, (_settled_change(row, firsts[row.id, row.attempt]) for row in rows))
    became = {(row.id, row.attempt): TaskStatus(row.status) for row in rows}
    return [became.get((item.id, item.attempt)) if firsts[item.id, item.attempt] is item else None for item in items]


def _settled(item: Settlement) -> tuple[object, ...]:
    return (
        *(item.id, item.attempt, item.status, item.result, item.error),
        *(item.due_at, item.now, item.now // 1000, int(item.handed_back), item.entry),
    )


def _settled_change(row: Any, item: Settlement) -> Change:
    detail = None if item.error is None else to_json({"error": item.error}).decode()
    return Change(row.id, TaskStatus(row.status), row.attempt, item.now, detail)
