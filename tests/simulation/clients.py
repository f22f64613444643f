"""The clients of a history: they submit tasks as the API accepts them, insist with a key, call off, delete."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic_core import to_json

from taskqueue.clock import milliseconds
from taskqueue.errors import InvalidRequest, StoreError
from taskqueue.store.orders import Order, Refused
from taskqueue.store.sweeps import Ready
from taskqueue_api.acceptance import accept
from taskqueue_api.collaborators import Collaborators
from tests.simulation.chance import Chance
from tests.simulation.processes import Process, World

ACTIONS: Final = ("echo", "echo", "echo", "flaky", "hopeless", "patient", "slow", "deadly")
TIMEOUT_SECONDS: Final = 10.0
TRIES: Final = 200
SUBMITTING_SECONDS: Final = 5.0

Answer = TypeVar("Answer")


class NoAnswer(Exception):
    """The API has failed, or has not answered: whatever was asked for may have been done, or not."""


@dataclass
class Submission:
    """What a client asks for, and the ids under which it was accepted: one, if all is well."""

    number: int
    action: str
    data: dict[str, Any]
    options: dict[str, Any]
    key: str | None
    delay: float
    cancelled_after: float | None
    retried_after: float | None
    deleted_after: float | None
    accepted: list[str] = field(default_factory=list)
    called_off: bool = False
    """Whether somebody has asked that it be cancelled."""

    @property
    def body(self) -> bytes:
        """What goes over the wire."""
        return to_json({"action": self.action, "data": self.data, **self.options})


def drawn(chance: Chance, clock: Callable[[], int]) -> Sequence[Submission]:
    """What the clients of a history are going to ask for."""
    longest = chance.between(0.1, 1) ** 2 * 8
    return [_submission(chance, clock(), number, longest) for number in range(3 + int(chance.between(0, 4)))]


def _submission(chance: Chance, now: int, number: int, longest: float) -> Submission:
    action = ACTIONS[int(chance.between(0, len(ACTIONS)))]
    data = {"value": number, "takes": chance.between(0.01, longest), "times": 1 + int(chance.between(0, 2.5) ** 2)}
    options: dict[str, Any] = {}
    if chance.likely(0.3):
        options["priority"] = 5
    if chance.likely(0.3):
        options["max_attempts"] = 1 + int(chance.between(0, 4))
    if chance.likely(0.15):
        options["delay"] = chance.between(0.5, 6)
    if chance.likely(0.1):
        expires_at = now + milliseconds(SUBMITTING_SECONDS + chance.between(1, 12))
        options["expires_at"] = datetime.fromtimestamp(expires_at / 1000, UTC).isoformat()
    return Submission(
        number,
        action,
        data,
        options,
        key=f"key-{number}" if chance.likely(0.6) else None,
        delay=SUBMITTING_SECONDS * chance.draws.random() ** 2,
        cancelled_after=chance.between(0, 1) ** 2 * 3 if chance.likely(0.2) else None,
        retried_after=chance.between(0, 6) if chance.likely(0.2) else None,
        deleted_after=chance.between(0, 1) ** 2 * 6 if chance.likely(0.25) else None,
    )


async def submit(world: World, processes: Sequence[Process], wish: Submission) -> None:
    """Has the task accepted. Who has a key asks again until there is an answer, and now and then once more."""
    await asyncio.sleep(wish.delay)
    for _ in range(TRIES):
        try:
            accepted = await _ask(world, processes, lambda api: accept(api, wish.body, key=wish.key))
        except InvalidRequest:  # it asks too late
            return
        except NoAnswer:
            if wish.key is None:
                return
            await asyncio.sleep(world.chance.between(0.1, 1))
        else:
            world.trace.note("accepted", accepted.id, wish.action, wish.number)
            wish.accepted.append(accepted.id)
            if wish.key is None or world.chance.likely(0.8):
                break
    if wish.cancelled_after is not None:
        await asyncio.sleep(wish.cancelled_after)
        await _call_off(world, processes, wish)
    if wish.retried_after is not None:
        await asyncio.sleep(wish.retried_after)
        await _retry(world, processes, wish.accepted[-1])
    if wish.deleted_after is not None:
        await asyncio.sleep(wish.deleted_after)
        await _delete(world, processes, wish.accepted[-1])


async def _call_off(world: World, processes: Sequence[Process], wish: Submission) -> None:
    task_id = wish.accepted[-1]
    wish.called_off = True
    try:
        answer = await _ask(world, processes, lambda api: api.store.cancel(Order(task_id, world.clock())))
    except NoAnswer:
        return
    world.trace.note("order to cancel", task_id, answer)


async def _retry(world: World, processes: Sequence[Process], task_id: str) -> None:
    """Orders another try, as the endpoint does: what has ended badly, and that alone, begins anew."""

    async def order(api: Collaborators) -> Ready | Refused:
        now = world.clock()
        answer = await api.store.retry(Order(task_id, now, api.first_due(now)))
        if isinstance(answer, Ready):
            api.dispatcher.hand_over(answer)
        return answer

    world.observer.retry_ordered.add(task_id)
    with suppress(NoAnswer):
        world.trace.note("order to retry", task_id, type(await _ask(world, processes, order)).__name__)


async def _delete(world: World, processes: Sequence[Process], task_id: str) -> None:
    """Orders that it be deleted, which is refused while it has not ended. A message of it may be on its way still."""
    world.observer.deletion_ordered.add(task_id)
    with suppress(NoAnswer):
        answer = await _ask(world, processes, lambda api: api.store.erase(Order(task_id, world.clock())))
        world.trace.note("order to delete", task_id, answer)


async def _ask(
    world: World, processes: Sequence[Process], question: Callable[[Collaborators], Coroutine[Any, Any, Answer]]
) -> Answer:
    """The answer of some API to `question`, which it works on in its own process. Raises NoAnswer."""
    there = [process for process in processes if process.api is not None and process.lane.alive]
    if not there:
        await asyncio.sleep(0.3)
        raise NoAnswer
    process = there[int(world.chance.between(0, len(there)))]
    assert process.api is not None
    reply: asyncio.Future[Answer] = world.loop.create_future()
    at_work = world.loop.create_task(question(process.api), context=process.lane.context())
    at_work.add_done_callback(lambda task: _reply(reply, task), context=process.lane.context())
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await reply
    except (TimeoutError, StoreError) as error:
        raise NoAnswer from error


def _reply(reply: asyncio.Future[Answer], task: asyncio.Task[Answer]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if reply.done():
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(task.result())
