"""What a change becomes on its way to a client that listens."""

from taskqueue.schema import TaskStatus
from taskqueue.store.changes import Change, Event
from taskqueue.store.reads import Glance
from taskqueue_api.streaming import told, told_at_a_glance


def test_a_damaged_detail_is_left_out() -> None:
    """Else a client that comes again where it was would never get past it."""
    change = Change("a", TaskStatus.FAILED, 1, 7, "{")

    assert b'"status":"failed"' in told(Event(1, change, "sum"))
    assert b"progress" in told_at_a_glance(Glance(Event(1, change, "sum"), progress="{", error=None))
