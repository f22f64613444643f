"""How a worker shows that it is well, and how a container asks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taskqueue_worker import health
from taskqueue_worker.health import note_health
from tests.conftest import StartService
from tests.support.eventually import eventually

WELL = {"at": 0.0, "ready": True}
DEAF = {"at": 0.0, "ready": False}
STALE_SECONDS = 3600.0


@asynccontextmanager
async def noting(file: Path, ready: list[bool], asked: list[bool] | None = None) -> AsyncIterator[None]:
    """A worker that notes the last of `ready`; what it noted is kept in `asked`."""

    def consuming() -> bool:
        if asked is not None:
            asked.append(ready[-1])
        return ready[-1]

    task = asyncio.create_task(note_health(file, consuming))
    yield
    task.cancel()
    await asyncio.wait({task})


async def test_a_worker_notes_that_it_is_well_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note is fresh while the loop turns, and says whether the worker consumes."""
    monkeypatch.setattr(health, "NOTE_SECONDS", 0.02)
    file, ready = tmp_path / "health", [False]

    async with noting(file, ready):
        first = await eventually(lambda: _read(file), what="a note")
        await eventually(lambda: _read(file)["at"] > first["at"], what="a fresher note")
        assert _read(file)["ready"] is False
        ready.append(True)
        await eventually(lambda: _read(file)["ready"], what="the worker is ready")


async def test_a_reader_never_sees_half_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is asked, the file holds a whole note."""
    monkeypatch.setattr(health, "NOTE_SECONDS", 0)
    file = tmp_path / "health"

    async with noting(file, [True]):
        await eventually(lambda: _read(file), what="a note")
        notes = await asyncio.to_thread(lambda: [_read(file) for _ in range(2_000)])

    assert all(set(note) == {"at", "ready"} for note in notes)


async def test_a_note_that_cannot_be_written_does_not_end_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no reason to stop working: the note grows old, and is renewed when it can be."""
    monkeypatch.setattr(health, "NOTE_SECONDS", 0.02)
    asked: list[bool] = []
    file = tmp_path / "folder" / "health"

    async with noting(file, [True], asked):
        await eventually(lambda: len(asked) > 2, what="several tries")
        file.parent.mkdir()
        await eventually(lambda: _read(file), what="a note")


@pytest.mark.parametrize(
    ("question", "note", "verdict"),
    [
        ("", WELL, 0),
        (" ready", WELL, 0),
        (" live", WELL, 0),
        ("", DEAF, 1),
        (" ready", DEAF, 1),
        (" live", DEAF, 0),
        ("", WELL | {"at": -STALE_SECONDS}, 1),
        (" live", WELL | {"at": -STALE_SECONDS}, 1),
        ("", {}, 1),
        ("", None, 1),
    ],
    ids=str,
)
async def test_the_health_check_answers_by_its_exit_code(
    tmp_path: Path, start_service: StartService, question: str, note: dict[str, Any] | None, verdict: int
) -> None:
    """`live` asks whether the loop turns, `ready` whether the worker also consumes; without a note the answer is no."""
    file = tmp_path / "health"
    if note is not None:
        now = {"at": time.monotonic() + note["at"]} if note else {}
        file.write_text(json.dumps(note | now))

    asked = start_service(f"taskqueue_worker.healthcheck{question}", HEALTH_FILE=file)

    assert await asked.ended() == verdict


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"at": "yesterday", "ready": true}'])
async def test_a_note_that_cannot_be_read_is_a_no(tmp_path: Path, start_service: StartService, content: str) -> None:
    """Whatever is in the file, the answer is an exit code and no traceback."""
    (tmp_path / "health").write_text(content)

    asked = start_service("taskqueue_worker.healthcheck", HEALTH_FILE=tmp_path / "health")

    assert await asked.ended() == 1
    assert asked.said == ""


async def test_a_worker_without_a_health_file_is_not_called_well(start_service: StartService) -> None:
    """A health check that was asked of the wrong container answers no."""
    asked = start_service("taskqueue_worker.healthcheck")

    assert await asked.ended() == 1
    assert asked.said == ""


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}
