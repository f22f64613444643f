"""Under way: what a running attempt tells, its lease and its progress, as batched writes of the current attempt."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, update

from taskqueue.schema import TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.guards import are_among, is_running_as
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import tasks


@dataclass(frozen=True)
class Lease:
    """A running attempt whose worker is alive, and keeps it until `until` (ms) at least."""

    id: str
    attempt: int
    until: int


_leases = Batch("id", "attempt", "until")
_RENEW = BatchWrite(
    update(tasks).where(is_running_as(_leases)).values(due_at=_leases["until"]).returning(tasks.c.id, tasks.c.attempt)
)


def renew(connection: Connection, items: Sequence[Lease]) -> Sequence[bool]:
    """Extends leases; False where the attempt is no longer the current one."""
    return are_among(_RENEW.run(connection, ((item.id, item.attempt, item.until) for item in items)), items)


@dataclass(frozen=True)
class Progress:
    """What the handler of a running attempt tells at `now` (ms): JSON text."""

    id: str
    attempt: int
    now: int
    progress: str


_reports = Batch("id", "attempt", "progress")
_REPORT = BatchWrite(
    update(tasks)
    .where(is_running_as(_reports))
    .values(progress=_reports["progress"])
    .returning(tasks.c.id, tasks.c.attempt)
)


def report(connection: Connection, items: Sequence[Progress]) -> Sequence[bool]:
    """Notes progress; False where the attempt is no longer the current one. Of two of one attempt the last counts."""
    lasts = {(item.id, item.attempt): item for item in items}
    rows = _REPORT.run(connection, ((item.id, item.attempt, item.progress) for item in lasts.values()))
    note(connection, (_told(lasts[row.id, row.attempt]) for row in rows))
    return are_among(rows, items)


def _told(item: Progress) -> Change:
    return Change(item.id, TaskStatus.RUNNING, item.attempt, item.now, item.progress)
