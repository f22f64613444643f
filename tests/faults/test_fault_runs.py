"""The fault runner on real systems: a short seed loses nothing; and where something is lost, it says so."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults import __main__ as runner
from faults.commands import run
from faults.load import Load
from faults.scene import Scene
from faults.schedule import Fault
from faults.single import SingleProcess
from tests.support.docker import require_docker

ROOT = Path(__file__).parents[2]
COUNTS = re.compile(r"(\d+) tasks accepted, (\d+) lost, (\d+) recorded twice, (\d+) run twice, (\d+) unexpected")

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_short_seed_on_one_process_loses_nothing() -> None:
    """Killed, and with its database locked, embedded mode keeps its promise; and the report says so."""
    _assert_nothing_lost(_faults("--system", "processes", "--seed", "4", "--only", "killed,database-locked"), faults=2)


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_a_short_seed_on_the_compose_stack_loses_nothing() -> None:
    """A worker killed, a broker without its disk, and messages many times over."""
    require_docker()

    _assert_nothing_lost(
        _faults("--system", "compose", "--seed", "4", "--only", "worker-killed,rabbitmq-wiped,duplicates"),
        faults=3,
    )


def test_where_docker_is_missing_the_runner_says_so_and_takes_processes(tmp_path: Path) -> None:
    """It never fails for want of an engine."""
    ended = _faults("--list", environment={"PATH": str(tmp_path)})

    assert ended.returncode == 0
    assert "No Docker engine answers" in ended.stdout
    assert "three-migrates" in ended.stdout
    assert "memory-alarm" not in ended.stdout


def test_an_unknown_fault_is_refused_with_the_names_of_those_that_there_are() -> None:
    """A slip must not pass for a run without losses."""
    ended = _faults("--system", "processes", "--only", "no-such-fault")

    assert ended.returncode == 1
    assert "there is no fault no-such-fault; there are: killed, " in ended.stderr


DELETE = "DELETE FROM tasks WHERE status = 'completed'"
FORGE = """UPDATE tasks SET result = '{"output": -1}' WHERE status = 'completed'"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("sabotage", "counted"), [(DELETE, "lost"), (FORGE, "unexpected")])
def test_what_is_lost_or_wrong_in_a_real_run_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sabotage: str, counted: str
) -> None:
    """Somebody deletes tasks, or forges results, behind the services' back: it is named, and the exit code is 1."""

    @contextmanager
    def happening(scene: Scene[SingleProcess]) -> Iterator[None]:
        yield
        _sabotage(scene, sabotage)

    assert _exit_code(monkeypatch, Fault("sabotage", happening, 1, 1)) == 1
    told = capsys.readouterr().out
    assert "\n      ! " in told
    assert f" 0 {counted}" not in told


FORGET = "UPDATE tasks SET status = 'pending', due_at = 1 << 45 WHERE tags = '[\"round-1-0\"]'"


@pytest.mark.timeout(120)
def test_a_task_is_looked_after_whose_answer_was_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody knows its id, and it never ends: it is found in the database by its tag."""

    @contextmanager
    def happening(scene: Scene[SingleProcess]) -> Iterator[None]:
        yield
        scene.load.asks[0].accepted.clear()
        _sabotage(scene, FORGET)

    assert _exit_code(monkeypatch, Fault("sabotage", happening, 1, 1)) == 1
    assert "(round-1-0) was recorded without an answer, and is still pending" in capsys.readouterr().out


@pytest.mark.timeout(120)
def test_a_run_that_had_nothing_accepted_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is accepted nothing is lost: it must not pass for a proof."""

    @contextmanager
    def happening(_: Scene[SingleProcess]) -> Iterator[None]:
        yield

    async def refused(*_: object) -> bool:
        return False

    monkeypatch.setattr(Load, "_post", refused)
    monkeypatch.setattr("faults.load.PATIENCE_SECONDS", 0)
    assert _exit_code(monkeypatch, Fault("silence", happening, 0, 0)) == 1
    assert "nothing was accepted, and so nothing shown: silence" in capsys.readouterr().out


def _sabotage(scene: Scene[SingleProcess], statement: str) -> None:
    """Behind the services' back."""
    place = str(scene.system.database)
    run(
        sys.executable,
        "-c",
        f"import pysqlite3 as s; c = s.connect({place!r}); c.execute({statement!r}); c.commit()",
    )


def _exit_code(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> object:
    """Of a run with this fault alone, on one process."""
    monkeypatch.setattr(runner, "ON_PROCESSES", (fault,))
    monkeypatch.setattr(sys, "argv", ["faults", "--system", "processes", "--seed", "7", "--quiet", "3"])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as ended:
        runner.main()
    for number, handler in before.items():
        signal.signal(number, handler)
    return ended.value.code


def _faults(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faults", *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def _assert_nothing_lost(ended: subprocess.CompletedProcess[str], faults: int) -> None:
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert f"{faults} faults on " in ended.stdout, told
    found = COUNTS.search(ended.stdout)
    assert found, told
    accepted, lost, twice, _, unexpected = map(int, found.groups())
    assert accepted > 50
    assert (lost, twice, unexpected) == (0, 0, 0)
