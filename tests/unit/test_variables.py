"""Variables that nobody reads: a slip that would go unnoticed."""

from collections.abc import Sequence

from structlog.testing import capture_logs

from taskqueue.variables import warn_of_unknown


def _warnings(*names: str) -> Sequence[tuple[str, str | None]]:
    with capture_logs() as log:
        warn_of_unknown(names)
    assert {(entry["name"], entry["log_level"]) for entry in log} <= {("setting_unknown", "warning")}
    return [(entry["variable"], entry.get("nearest")) for entry in log]


def test_a_slip_is_told_with_what_may_be_meant() -> None:
    """Each of them, and without what it was set to, which may be a secret."""
    assert _warnings("TASKQUEUE_MAX_ATTEMPT", "taskqueue_prefetch", "TASKQUEUE_XYZZY") == [
        ("TASKQUEUE_MAX_ATTEMPT", "TASKQUEUE_MAX_ATTEMPTS"),
        ("TASKQUEUE_XYZZY", None),
        ("taskqueue_prefetch", "TASKQUEUE_PREFETCH_COUNT"),
    ]


def test_what_any_service_reads_is_no_slip() -> None:
    """One file of variables may serve all services; and what is not ours is not our affair."""
    assert _warnings("TASKQUEUE_PORT", "taskqueue_channels", "TASKQUEUE_HEALTH_FILE", "PORT", "TASK_QUEUE_PORT") == []
