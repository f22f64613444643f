"""The product with one guard taken away: what the simulation must notice, or it would prove nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import Connection, select, update

from taskqueue.broker.contract import Delivery
from taskqueue.dispatch import Dispatcher
from taskqueue.errors import StoreError
from taskqueue.schema import TaskMessage, TaskOptions, TaskPayload, TaskStatus
from taskqueue.store import claims, losses, orders, settling, sweeps
from taskqueue.store.claims import Claim
from taskqueue.store.doors.adding import Adding
from taskqueue.store.guards import may_become
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.statements import BatchWrite
from taskqueue.store.sweeps import Due, Lost, Ready
from taskqueue.store.tables import tasks
from taskqueue_worker.execution import Execution

_settle = settling.settle
_take = sweeps._take
_publish = Dispatcher._publish_level
_add = Adding.add
_explain = claims._explain


def _settle_any_attempt(connection: Connection, items: Sequence[Settlement]) -> Sequence[TaskStatus | None]:
    now_at = {row.id: row.attempt for row in connection.execute(select(tasks.c.id, tasks.c.attempt))}
    return _settle(connection, [replace(item, attempt=now_at[item.id]) for item in items])


async def _mark_then_publish(self: Dispatcher, batch: list[Ready]) -> None:
    now = self._clock()
    with suppress(StoreError):
        await self._store.mark_queued([Dispatched(ready.payload.id, ready.attempt, now) for ready in batch])
    await _publish(self, batch)


async def _ack_then_perform(self: Execution, delivery: Delivery) -> None:
    await delivery.ack()
    await self._begin(TaskMessage.decode(delivery.body))


async def _add_later(
    self: Adding, payload: TaskPayload, due_at: int, options: TaskOptions, *, schedule_id: str | None = None
) -> None:
    asyncio.ensure_future(_add(self, payload, due_at, options, schedule_id=schedule_id)).add_done_callback(
        lambda task: task.exception()
    )
    await asyncio.sleep(0)


async def _add_without_key(
    self: Adding, payload: TaskPayload, due_at: int, options: TaskOptions, *, key: str, fingerprint: str
) -> None:
    await _add(self, payload, due_at, options)


async def _add_and_then_keep_the_key(
    self: Adding, payload: TaskPayload, due_at: int, options: TaskOptions, *, key: str, fingerprint: str
) -> None:
    await _add(self, payload, due_at, options)
    await self._write(_keep_keys, (payload.id, key, fingerprint))


def _keep_keys(connection: Connection, items: Sequence[tuple[str, str, str]]) -> Sequence[None]:
    for task_id, key, fingerprint in items:
        kept = update(tasks).where(tasks.c.id == task_id).values(idempotency_key=key, fingerprint=fingerprint)
        connection.execute(kept)
    return [None] * len(items)


def _take_and_leave_due(connection: Connection, item: Due) -> list[Ready]:
    taken = _take(connection, item)
    ids = [ready.payload.id for ready in taken]
    connection.execute(update(tasks).where(tasks.c.id.in_(ids)).values(due_at=item.now))
    return taken


def _end_none(_: Connection, *_of_the_sweep: object) -> Sequence[str]:
    return []


def _find_none_lost(_: Connection, items: Sequence[Lost]) -> Sequence[int]:
    return [0] * len(items)


def _always_again(*_: Any) -> TaskStatus:
    return TaskStatus.PENDING


def _begin_from_any_status() -> Any:
    statement: Any = claims._BEGIN_ATTEMPTS.statement
    guard = may_become(TaskStatus.RUNNING)
    weak: Any = statement._clone()
    weak._where_criteria = tuple(each for each in statement._where_criteria if not each.compare(guard))
    assert len(weak._where_criteria) == len(statement._where_criteria) - 1
    return BatchWrite(weak)


def _explain_as_of_another_producer(connection: Connection, items: Sequence[Claim], now: int) -> Any:
    return _explain(connection, [replace(item, recorded=False) for item in items], now)


def _mutant(place: Any, name: str, mutation: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(place, name, mutation)


MUTANTS: Final[Mapping[str, Callable[[], AbstractContextManager[Any]]]] = {
    "an outcome is recorded for whatever attempt runs": _mutant(settling, "settle", _settle_any_attempt),
    "a task is marked queued before the broker has confirmed it": _mutant(
        Dispatcher, "_publish_level", _mark_then_publish
    ),
    "a message is acknowledged before the outcome is on disk": _mutant(Execution, "run", _ack_then_perform),
    "a claim begins an attempt from any status": _mutant(claims, "_BEGIN_ATTEMPTS", _begin_from_any_status()),
    "a sweep leaves due what it takes": _mutant(sweeps, "_take", _take_and_leave_due),
    "no sweep ends what lost its worker": _mutant(sweeps, "end_lost", _end_none),
    "nobody looks for lost messages": _mutant(sweeps, "requeue_lost", _find_none_lost),
    "what lost its worker is always tried again": _mutant(losses, "_after_loss", _always_again),
    "a deletion takes what has not ended": _mutant(orders, "FINAL", frozenset(TaskStatus)),
    "a message brings back what was deleted": _mutant(claims, "_explain", _explain_as_of_another_producer),
    "a task is accepted before it is on disk": _mutant(Adding, "add", _add_later),
    "a key is forgotten": _mutant(Adding, "add_once", _add_without_key),
    "a key is kept by a commit of its own": _mutant(Adding, "add_once", _add_and_then_keep_the_key),
}
