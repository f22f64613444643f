"""Running a handler that computes in a process of its own, which ends with the attempt if it must."""

from typing import Any

from anyio import BrokenWorkerProcess, to_process

from taskqueue.actions import Action, Context
from taskqueue_worker import child
from taskqueue_worker.outcomes import Failed, Returned


async def run_in_process(action: Action, data: dict[str, Any], context: Context) -> Returned:
    """What came of the handler. Cancelled, it kills the process.

    At most as many run at once as the machine has processors; processes are used again.
    """
    try:
        return await to_process.run_sync(
            child.perform,
            action.handler.__module__,
            action.name,
            data,
            (context.task_id, context.attempt, context.deadline),
            cancellable=True,
        )
    except BrokenWorkerProcess:
        return Failed("the process of the handler ended before the handler did")
