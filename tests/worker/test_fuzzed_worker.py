"""A worker that is sent whatever bytes: it buries what it cannot read, and goes on working."""

import pytest
from hypothesis import settings

from taskqueue import events
from taskqueue.errors import UnreadableMessage
from taskqueue.schema import TaskMessage, TaskStatus
from tests.support.eventually import eventually
from tests.support.fuzz import BODIES, drawn
from tests.worker.conftest import Workshop


def _readable(body: bytes) -> bool:
    try:
        TaskMessage.decode(body)
    except UnreadableMessage:
        return False
    return True


@pytest.mark.timeout(1_800)
async def test_no_message_ends_a_worker(workshop: Workshop) -> None:
    """Every message is gone in the end: performed, or dead with its reason. The worker is the same, and as able."""
    bodies = drawn(BODIES, settings.default.max_examples if settings.default else 100)
    async with workshop.working() as working:
        for first in range(0, len(bodies), 100):
            await workshop.broker.publish(bodies[first : first + 100])
        unreadable = [body for body in bodies if not _readable(body)]
        await eventually(
            lambda: len(workshop.reports(events.MESSAGE_BURIED)) >= len(unreadable),
            within=600,
            what="the end of all that is unreadable",
        )
        task = await workshop.outcome("sum", {"numbers": [1, 2]})

        assert (task.status, task.result) == (TaskStatus.COMPLETED, {"output": 3})
        assert not working.run.done()
    assert workshop.reports(events.EXECUTION_BROKE) == []
