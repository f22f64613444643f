"""How large the write-ahead log becomes beside a reader that does not end, and what becomes of it afterwards."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from taskqueue.store.sqlite import LOG_LIMIT_BYTES
from taskqueue.store.tasks import TaskStore
from tests.support.builders import a_payload
from tests.support.database import rows
from tests.support.frozen_clock import START

TASKS = 5_000
TEXT = "x" * 5_000
READER = """
import sys
from contextlib import closing
from pathlib import Path
from tests.support.database import connect
with closing(connect(Path(sys.argv[1]))) as connection:
    connection.execute("BEGIN")
    for line in sys.stdin.buffer:
        print(connection.execute("SELECT count(*) FROM tasks").fetchone()[0], flush=True)
"""
WITHIN = 60
WRITES_AFTERWARDS = 20


async def test_the_log_is_bounded_again_once_a_long_reader_has_gone(store: TaskStore, database: Path) -> None:
    """Another process that reads from one instant keeps the log growing; neither it nor the writer is disturbed."""
    log = database.with_name(f"{database.name}-wal")
    await _add(store, "before")

    async with _reader(database) as ask:
        assert await ask() == 1
        await asyncio.gather(*(_add(store, str(number)) for number in range(TASKS)))
        grown = log.stat().st_size
        assert await ask() == 1
    for number in range(WRITES_AFTERWARDS):
        await _add(store, f"after-{number}")

    assert grown > LOG_LIMIT_BYTES
    assert log.stat().st_size <= LOG_LIMIT_BYTES
    assert rows(database, "SELECT count(*) FROM tasks") == [(1 + TASKS + WRITES_AFTERWARDS,)]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


async def _add(store: TaskStore, task_id: str) -> None:
    await store.add(a_payload(task_id, data={"text": TEXT}), START)


@asynccontextmanager
async def _reader(database: Path) -> AsyncIterator["_Ask"]:
    """A process that reads in one transaction for as long as the block runs, and counts the tasks that it sees."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, str(database), stdin=PIPE, stdout=PIPE)
    try:
        yield _Ask(process)
    finally:
        process.kill()
        await process.wait()


class _Ask:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self) -> int:
        """How many tasks the reader sees."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?\n")
        async with asyncio.timeout(WITHIN):
            return int(await self._process.stdout.readline())
