"""Adding: new tasks, as a batched write, and of one idempotency key one task alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import to_json
from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from taskqueue.schema import NO_OPTIONS, TaskOptions, TaskPayload, TaskStatus
from taskqueue.store.batch import Batch
from taskqueue.store.changes import Change, note
from taskqueue.store.statements import BatchWrite
from taskqueue.store.tables import task_tags, tasks
from taskqueue.store.tallies import ACCEPTED, count


@dataclass(frozen=True)
class NewTask:
    """A task to record. `accepted_at` is in microseconds, `due_at` in milliseconds.

    Of one `key`, one task is ever recorded; `fingerprint` tells whether the same was asked for.
    """

    payload: TaskPayload
    accepted_at: int
    due_at: int
    options: TaskOptions = NO_OPTIONS
    key: str | None = None
    fingerprint: str | None = None
    schedule_id: str | None = None


@dataclass(frozen=True)
class Known:
    """A task that was recorded before, under the same key."""

    id: str
    status: TaskStatus
    fingerprint: str | None


_NEW = (
    *("id", "payload", "created_at", "accepted_at", "due_at", "action", "priority", "timeout", "max_attempts"),
    *("run_at", "expires_at", "tags", "traceparent", "idempotency_key", "fingerprint", "schedule_id"),
)
_new = Batch(*_NEW)
_NEW_ROWS = select(*(_new[column] for column in _NEW)).select_from(_new.table).where(_new.table.c.value.is_not(None))
_ADD = BatchWrite(insert(tasks).from_select(_NEW, _NEW_ROWS))
_ADD_ONCE = BatchWrite(
    insert_or(tasks)
    .from_select(_NEW, _NEW_ROWS)
    .on_conflict_do_nothing(index_elements=[tasks.c.idempotency_key], index_where=tasks.c.idempotency_key.is_not(None))
    .returning(tasks.c.id)
)
_TAGGED = ("tag", "accepted_at", "task_id")
_tagged = Batch(*_TAGGED)
_TAG = BatchWrite(
    insert(task_tags).from_select(_TAGGED, select(*(_tagged[column] for column in _TAGGED)).select_from(_tagged.table))
)


def add(connection: Connection, items: Sequence[NewTask]) -> Sequence[Known | None]:
    """Records new tasks as `pending`; answers the one that was there before, where its key was taken."""
    plain = [item for item in items if item.key is None]
    keyed = [item for item in items if item.key is not None]
    if plain:
        _ADD.run(connection, map(_new_row, plain))
    known = _add_once(connection, keyed) if keyed else {}
    added = [item for item in items if item.payload.id not in known]
    count(connection, ACCEPTED, len(added))
    tags = [(tag, item.accepted_at, item.payload.id) for item in added for tag in item.options.tags]
    if tags:
        _TAG.run(connection, tags)
    note(connection, (Change(item.payload.id, TaskStatus.PENDING, 0, item.accepted_at // 1000) for item in added))
    return [known.get(item.payload.id) for item in items]


def _add_once(connection: Connection, items: Sequence[NewTask]) -> dict[str, Known]:
    """For each item whose key was taken, by the item's id, the task that has it."""
    added = {row.id for row in _ADD_ONCE.run(connection, map(_new_row, items))}
    taken = {item.key: item for item in items if item.payload.id not in added}
    if not taken:
        return {}
    rows = connection.execute(
        select(tasks.c.id, tasks.c.status, tasks.c.fingerprint, tasks.c.idempotency_key).where(
            tasks.c.idempotency_key.in_(list(taken))
        )
    )
    holders = {row.idempotency_key: Known(row.id, TaskStatus(row.status), row.fingerprint) for row in rows}
    return {item.payload.id: holders[item.key] for item in items if item.payload.id not in added and item.key}


def _new_row(item: NewTask) -> tuple[object, ...]:
    payload, options = item.payload, item.options
    return (
        *(payload.id, payload.model_dump_json(), payload.created_at, item.accepted_at, item.due_at, payload.action),
        *(options.priority, options.timeout, options.max_attempts, options.run_at, options.expires_at),
        *(to_json(options.tags).decode() if options.tags else None, options.traceparent),
        *(item.key, item.fingerprint, item.schedule_id),
    )
