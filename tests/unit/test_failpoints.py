"""Failpoints: what can be armed, what then happens, and that every point is in the code once, at least."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqueue import events, failpoints
from taskqueue.failpoints import POINTS, FailpointReached
from tests.conftest import StartService

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_nothing_happens_where_nothing_is_armed() -> None:
    """At any point, whatever else is armed."""
    failpoints.reach("claim.committed")
    failpoints.arm("settle.committed=fail")
    failpoints.reach("claim.committed")


def test_a_point_fails_at_each_passing_or_at_one() -> None:
    """`@3` is the third passing alone."""
    failpoints.arm("claim.committed=fail@3, settle.committed=fail")

    for passing in range(1, 6):
        assert _fails("claim.committed") is (passing == 3)
        assert _fails("settle.committed")


def test_a_point_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """For so many seconds, by sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    failpoints.arm("claim.committed=stall:0.25@2")

    for _ in range(3):
        failpoints.reach("claim.committed")

    assert slept == [0.25]


@pytest.mark.parametrize(
    "form", ["", "die", "stall", "stall:", "stall:-1", "kill@0", "kill@", "kill:3", "fail@x", "Kill"]
)
def test_a_form_that_does_not_exist_is_refused(form: str) -> None:
    """With those that do."""
    with pytest.raises(ValueError, match=r"kill, fail or stall:SECONDS"):
        failpoints.parse(f"claim.committed={form}")


@pytest.mark.parametrize("module", ["taskqueue_api", "taskqueue_worker", "taskqueue_embedded", "taskqueue_migrate"])
async def test_a_name_that_does_not_exist_is_an_error_at_the_start(start_service: StartService, module: str) -> None:
    """Of every service: exit code 2, the variable, and all the points there are."""
    service = start_service(module, FAILPOINTS="claim.commited=kill", LOG_FORMAT="json")

    assert await service.ended() == 2
    assert "TASKQUEUE_FAILPOINTS: there is no failpoint 'claim.commited'" in service.said
    assert all(name in service.said for name in POINTS)


async def test_whoever_is_armed_says_so_at_any_level(start_service: StartService, tmp_path: Path) -> None:
    """A setting that was left behind must not go unnoticed, also where warnings are not logged."""
    service = start_service(
        "taskqueue_embedded",
        DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db",
        PORT=0,
        FAILPOINTS="ack.sent=stall:0",
        LOG_FORMAT="json",
        LOG_LEVEL="ERROR",
    )

    await service.reported(events.FAILPOINTS_ARMED, failpoints="ack.sent=stall:0")


def test_the_points_are_those_in_the_code() -> None:
    """Each name that is reached is known, and each that is known is reached."""
    files = [*(ROOT / "shared").rglob("*.py"), *(ROOT / "services").rglob("*.py")]

    assert {name for file in files for name in _reached(file)} == set(POINTS)


def _reached(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach":
            [name] = node.args
            assert isinstance(name, ast.Constant)
            yield str(name.value)


def _fails(name: str) -> bool:
    try:
        failpoints.reach(name)
    except FailpointReached as error:
        return str(error) == name
    return False
