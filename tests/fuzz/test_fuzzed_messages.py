"""Whatever bytes a producer puts into the queue: read, or refused with a reason; nothing else."""

import pytest
from hypothesis import given

from taskqueue.errors import UnreadableMessage
from taskqueue.schema import TaskMessage
from tests.support.fuzz import BODIES

pytestmark = pytest.mark.timeout(1_800)


@given(BODIES)
def test_a_message_is_read_or_refused(body: bytes) -> None:
    """What was read can be written, and is then read as the same."""
    try:
        message = TaskMessage.decode(body)
    except UnreadableMessage as error:
        reason = str(error)
    else:
        reason = "it is as it was"
        assert TaskMessage.decode(message.encode()) == message
    assert 0 < len(reason) < 500
