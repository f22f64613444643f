"""From what a client sent to tasks on disk, on their way to the broker or waiting for their time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from aiohttp import web

from taskqueue import failpoints
from taskqueue.requests import TaskRequest, in_batch, parse_batch
from taskqueue.schema import TaskOptions, TaskPayload, TaskStatus
from taskqueue.store.adding import Known
from taskqueue.store.sweeps import Ready
from taskqueue_api.collaborators import Collaborators


@dataclass(frozen=True)
class Accepted:
    """A task that is on disk: a new one, or one that was `replayed`, since it came with the same key before."""

    id: str
    status: TaskStatus
    replayed: bool = field(default=False, compare=False)


async def accept(
    collaborators: Collaborators, body: bytes, *, key: str | None = None, traceparent: str | None = None
) -> Accepted:
    """The task that `body` asks for.

    Raises InvalidRequest, HTTPUnprocessableEntity for a key of another body, HTTPServiceUnavailable beyond the bound.
    """
    if key is None:
        new = _new_task(collaborators, TaskRequest.parse(body), traceparent)
        failpoints.reach("accept.received")
        async with collaborators.backlog.room_for(1):
            await collaborators.store.add(*new)
        return _send_off(collaborators, new, len(body))
    fingerprint = sha256(body).hexdigest()
    # Before the body is read: what was accepted once stays so, also where its times have passed since.
    known = await collaborators.store.holder_of(key)
    if known is None:
        new = _new_task(collaborators, TaskRequest.parse(body), traceparent)
        failpoints.reach("accept.received")
        async with collaborators.backlog.room_for(1):
            known = await collaborators.store.add_once(*new, key=key, fingerprint=fingerprint)
        if known is None:
            return _send_off(collaborators, new, len(body))
    return _replay(known, fingerprint)


async def accept_all(
    collaborators: Collaborators, body: bytes, *, traceparent: str | None = None
) -> Sequence[Accepted]:
    """The tasks that `body` asks for, in its order: all of them, or none.

    Raises InvalidRequest, or HTTPServiceUnavailable where too many wait.
    """
    new = []
    for index, request in enumerate(parse_batch(body)):
        with in_batch(index):
            new.append(_new_task(collaborators, request, traceparent))
    failpoints.reach("accept.received")
    async with collaborators.backlog.room_for(len(new)):
        await collaborators.store.add_all(new)
    return [_send_off(collaborators, each, len(body) // len(new)) for each in new]


NewTask = tuple[TaskPayload, int, TaskOptions]
"""What to do, when it is due unless something happens first (ms), and how."""


def _new_task(collaborators: Collaborators, request: TaskRequest, traceparent: str | None) -> NewTask:
    collaborators.catalogue.check(request.action, request.data)
    now = collaborators.clock()
    options = request.options(now, traceparent)
    due_at = collaborators.first_due(now) if options.run_at is None else options.run_at
    return request.payload(created_at=now // 1000), due_at, options


def _send_off(collaborators: Collaborators, new: NewTask, characters: int) -> Accepted:
    """Hands over a task that is on disk. One that waits for its time is brought by the sweep."""
    failpoints.reach("accept.committed")
    payload, _, options = new
    if options.run_at is not None:
        return Accepted(payload.id, TaskStatus.PENDING)
    ready = Ready(payload, attempt=0, characters=characters, priority=options.priority)
    collaborators.dispatcher.hand_over(ready)
    return Accepted(payload.id, TaskStatus.QUEUED)


def _replay(known: Known, fingerprint: str) -> Accepted:
    if known.fingerprint != fingerprint:
        raise web.HTTPUnprocessableEntity(reason="this Idempotency-Key came with another body before")
    return Accepted(known.id, known.status, replayed=True)
