"""One message's way through the worker, as named steps: read, claim, perform, settle, acknowledge."""

from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from taskqueue import events, failpoints
from taskqueue.broker.contract import Delivery
from taskqueue.errors import QueryFailed, UnreadableMessage
from taskqueue.schema import TaskMessage, TaskStatus
from taskqueue.store.claims import Claimed
from taskqueue.store.settling import Settlement
from taskqueue.sweep import DeliveryLog
from taskqueue_worker.direct import DirectSupply
from taskqueue_worker.gate import Gate, GateClosed
from taskqueue_worker.handling import Handling
from taskqueue_worker.ledger import Ledger
from taskqueue_worker.outcomes import Superseded

_REPORTS = {
    TaskStatus.COMPLETED: events.TASK_COMPLETED,
    TaskStatus.FAILED: events.TASK_FAILED,
    TaskStatus.CANCELLED: events.TASK_CANCELLED,
}


class Execution:
    """Takes a delivery to its end. A delivery that is not settled at that end comes again, by the broker's doing."""

    def __init__(
        self, ledger: Ledger, handling: Handling, deliveries: DeliveryLog, direct: DirectSupply, gate: Gate
    ) -> None:
        self._ledger = ledger
        self._handling = handling
        self._deliveries = deliveries
        self._direct = direct
        self._gate = gate

    def close(self) -> None:
        """Begins no further attempt: whatever has not been claimed by now goes back to the queue."""
        self._gate.close()

    async def run(self, delivery: Delivery) -> None:
        """Performs the task of `delivery`, or finds out why it need not be performed."""
        try:
            message = TaskMessage.decode(delivery.body)
            failpoints.reach("delivery.received")
            self._deliveries.note(message.dispatched_at, message.priority)
            await self._begin(message)
        except GateClosed:
            await delivery.release()
        except (UnreadableMessage, QueryFailed) as error:
            events.emit(events.MESSAGE_BURIED, reason=str(error))
            await delivery.bury(str(error))
        except Exception as error:  # noqa: BLE001 - our own fault must not hold a place for ever; its row falls due again
            events.emit(events.EXECUTION_BROKE, exc_info=error)
            await delivery.bury(f"{type(error).__name__}: {error}")
        else:
            await delivery.ack()
            failpoints.reach("ack.sent")

    async def without_broker(self, room: int) -> Sequence[Coroutine[Any, Any, None]]:
        """The executions of up to `room` tasks that no broker has brought. What they cannot begin falls due again."""
        return [self._run_direct(message) for message in (await self._direct.take(room) if room else ())]

    async def _run_direct(self, message: TaskMessage) -> None:
        try:
            with suppress(GateClosed):
                await self._begin(message)
        except Exception as error:  # noqa: BLE001 - our own fault: its row falls due again
            events.emit(events.EXECUTION_BROKE, exc_info=error)

    async def _begin(self, message: TaskMessage) -> None:
        # Not unbound afterwards: the context is this execution's own, and what breaks further out names its task, too.
        structlog.contextvars.bind_contextvars(task_id=message.id, action=message.action)
        # Before the claim: who waits here for a suspect to end loses nothing when it takes the worker down.
        async with self._gate.passing(alone=message.alone):
            await self._execute(message)

    async def _execute(self, message: TaskMessage) -> None:
        claimed = await self._ledger.begin(message)
        if isinstance(claimed, Claimed):
            with structlog.contextvars.bound_contextvars(**_trace(claimed.traceparent)):
                await self._perform(claimed)

    async def _perform(self, claimed: Claimed) -> None:
        failpoints.reach("claim.committed")
        outcome = await self._handling.perform(claimed)
        failpoints.reach("handler.returned")
        settled = None if isinstance(outcome, Superseded) else await self._ledger.settle(claimed, outcome)
        failpoints.reach("settle.committed")
        _report(claimed, settled)


def _trace(traceparent: str | None) -> dict[str, str]:
    """The trace that the task belongs to, for every line of the log: the second part of its W3C `traceparent`."""
    return {} if traceparent is None else {"trace_id": traceparent.partition("-")[2].partition("-")[0]}


def _report(claimed: Claimed, settled: Settlement | None) -> None:
    if settled is None:
        events.emit(events.LEASE_LOST, attempt=claimed.attempt)
    elif settled.handed_back and settled.status is TaskStatus.PENDING:
        events.emit(events.TASK_HANDED_BACK, attempt=claimed.attempt)
    else:
        event = _REPORTS.get(settled.status, events.TASK_RETRIED)
        events.emit(event, attempt=claimed.attempt, error=settled.error, due_at=settled.due_at)
