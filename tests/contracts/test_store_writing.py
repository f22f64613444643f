"""How the store writes: durable, in groups, beside other processes, and through whatever befalls the file."""

import asyncio
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from taskqueue.clock import system_clock
from taskqueue.errors import (
    DatabaseDamaged,
    FolderNotWritable,
    NetworkFileSystem,
    QueryFailed,
    SchemaUnknown,
    SQLiteTooOld,
    StoreUnavailable,
    StoreUnreachable,
)
from taskqueue.schema import TaskStatus
from taskqueue.store import sqlite, writer
from taskqueue.store.claims import Claimed
from taskqueue.store.queueing import Dispatched
from taskqueue.store.settling import Settlement
from taskqueue.store.tables import SCHEMA_REVISION
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.store.under_way import Lease
from taskqueue_migrate.runner import upgrade
from tests.support.builders import a_payload
from tests.support.database import change, rows, write_locked
from tests.support.eventually import eventually
from tests.support.frozen_clock import START
from tests.support.stored import claim, pending

A_SECOND = 1.0


async def test_every_writing_connection_reaches_the_disk(store: TaskStore) -> None:
    """The write-ahead log is synced at each commit, by the first connection and by any that replaces it."""
    for _ in range(2):
        with store._writer._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            connection.invalidate()


async def test_a_connection_that_does_not_reach_the_disk_is_refused(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pragma answers is asked back, since SQLite ignores in silence what it does not know."""
    monkeypatch.setattr(sqlite, "_SYNCHRONOUS_FULL", 3)

    with pytest.raises(StoreUnavailable, match="synchronous is not FULL"):
        await pending(store)


async def test_a_reading_connection_cannot_write(store: TaskStore) -> None:
    """A mistake in a query can spoil nothing."""
    async with store._readers.connect() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.exec_driver_sql("DELETE FROM tasks")


async def test_what_is_written_is_there_for_others_at_once(store: TaskStore, other_store: TaskStore) -> None:
    """Another process reads what this one has just been told is on disk."""
    await pending(store)

    assert await other_store.find("a") is not None


async def test_writes_share_commits(store: TaskStore) -> None:
    """A hundred at once need a few commits, not a hundred."""
    with _commits(store) as commits:
        await asyncio.gather(*(pending(store, str(number)) for number in range(100)))

    assert 1 <= len(commits) <= 5
    assert len((await store.page()).tasks) == 100


async def test_what_arrives_during_a_commit_shares_the_next(store: TaskStore) -> None:
    """Each caller that comes again at once finds company."""

    async def caller(name: int) -> None:
        for number in range(10):
            await pending(store, f"{name}-{number}")

    with _commits(store) as commits:
        await asyncio.gather(*(caller(name) for name in range(10)))

    assert len(commits) <= 50


async def test_who_comes_a_few_turns_later_shares_the_commit(store: TaskStore) -> None:
    """As do a worker's ends, some turns of the event loop after its claims: no commit is for the first alone."""

    async def caller(name: int) -> None:
        for _ in range(name * (writer.QUIET_TURNS - 1)):
            await asyncio.sleep(0)
        await pending(store, str(name))

    with _commits(store) as commits:
        await asyncio.gather(*(caller(name) for name in range(5)))

    assert len(commits) == 1


async def test_a_stream_that_never_falls_quiet_holds_up_nobody(store: TaskStore) -> None:
    """The first ones' commit begins though somebody comes at every turn."""
    waiting = store._writer._waiting
    most = 2 * writer.MOST_TURNS
    came = []

    for number in range(most):
        came.append(asyncio.create_task(pending(store, str(number))))
        await asyncio.sleep(0)
        if len(waiting) < number // 2:  # a group has been taken
            break

    await asyncio.gather(*came)
    assert writer.QUIET_TURNS < len(came) < most


async def test_a_commit_is_of_bounded_size(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, the lock is let go of between groups, and nobody is forgotten."""
    monkeypatch.setattr(writer, "MAX_REQUESTS_PER_COMMIT", 10)

    with _commits(store) as commits:
        await asyncio.gather(*(pending(store, str(number)) for number in range(95)))

    assert len(commits) == 10


async def test_different_writes_share_a_commit(store: TaskStore) -> None:
    """Whatever they are, each answers its own caller."""
    payload = await pending(store, "claimed")
    await pending(store, "queued")

    with _commits(store) as commits:
        _, claimed, _, settled, taken = await asyncio.gather(
            store.add(a_payload("new"), START + 1),
            claim(store, payload),
            store.mark_queued([Dispatched("queued", 0, START)]),
            store.settle(Settlement("unknown", 1, TaskStatus.FAILED)),
            store.requeue_lost(START - 1),
        )

    assert claimed == Claimed(payload, attempt=1, forgiven=0)
    assert (settled, taken) == (None, 0)
    assert len(commits) == 1


@pytest.mark.parametrize("bad", ["taken", "\ud800"])
async def test_one_bad_write_does_not_fail_its_neighbours(store: TaskStore, bad: str) -> None:
    """It alone is refused; the others of its group are written, each once."""
    await pending(store, "taken")
    ids = ["a", "b", bad, "c", "d"]

    answers = await asyncio.gather(*(pending(store, task_id) for task_id in ids), return_exceptions=True)

    assert [isinstance(answer, QueryFailed) for answer in answers] == [task_id == bad for task_id in ids]
    assert {task.id for task in (await store.page()).tasks} == {"a", "b", "c", "d", "taken"}


async def test_a_commit_that_is_refused_leaves_no_transaction_behind(store: TaskStore) -> None:
    """What comes after it begins anew, on a connection that is kept otherwise."""
    driver: Any = store._writer._engine.raw_connection().driver_connection
    driver.execute("PRAGMA foreign_keys = ON")
    await store._writer.run(_make_children, [None])

    with pytest.raises(QueryFailed, match="FOREIGN KEY"):
        await store._writer.run(_add_orphans, [None])

    await pending(store, "next")
    assert await store.find("next") is not None


async def test_a_refusal_comes_with_its_own_reason(store: TaskStore) -> None:
    """Each caller hears what was wrong with its own write."""
    await pending(store, "taken")

    duplicate, broken = await asyncio.gather(pending(store, "taken"), pending(store, "\ud800"), return_exceptions=True)

    assert "UNIQUE" in str(duplicate)
    assert "surrogates" in str(broken)


@pytest.mark.parametrize("turns", range(12))
async def test_a_caller_that_goes_away_leaves_no_open_transaction(store: TaskStore, database: Path, turns: int) -> None:
    """At whichever step it is cancelled: what it asked for is there as a whole or not at all, and the lock is free."""
    caller = asyncio.ensure_future(pending(store, "gone"))
    neighbour = asyncio.ensure_future(pending(store, "neighbour"))
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])

    async with asyncio.timeout(A_SECOND):
        await neighbour
        await pending(store, "next")

    change(database, "DELETE FROM tasks WHERE id = 'gone'")
    assert {task.id for task in (await store.page()).tasks} == {"neighbour", "next"}


async def test_two_processes_that_write_at_once_lose_nothing(
    store: TaskStore, other_store: TaskStore, database: Path
) -> None:
    """Neither sees the other's lock as a failure, and every write of both is there."""
    stores = {"one": store, "two": other_store}

    async def caller(name: str, number: int) -> None:
        for again in range(5):
            payload = await pending(stores[name], f"{name}-{number}-{again}")
            assert isinstance(await claim(stores[name], payload), Claimed)
            assert await stores[name].renew(Lease(payload.id, 1, START))
            assert await stores[name].settle(Settlement(payload.id, 1, TaskStatus.COMPLETED, now=1000))

    await asyncio.gather(*(caller(name, number) for number in range(20) for name in stores))

    assert rows(database, "SELECT count(*) FROM tasks WHERE status = 'completed'") == [(200,)]


async def test_reads_go_on_while_others_write(store: TaskStore, database: Path) -> None:
    """Neither another process's lock nor many readers at once make a reader wait for long."""
    await pending(store)

    with write_locked(database):
        async with asyncio.timeout(A_SECOND * 5):
            found = await asyncio.gather(*(store.find("a") for _ in range(50)))

    assert all(found)


async def test_a_short_lock_is_waited_out(store: TaskStore, database: Path) -> None:
    """Another process's commit only delays a write."""
    with write_locked(database):
        writing = asyncio.ensure_future(pending(store))
        await asyncio.sleep(0.2)
        assert not writing.done()

    await writing


async def test_a_long_lock_is_told_and_passes(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is kept waiting for ever, and nothing of what failed is there later; the next write works."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.2)
    async with open_store(database, system_clock) as store:
        with write_locked(database):
            answers = await asyncio.gather(
                *(pending(store, str(number)) for number in range(5)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
            assert "locked" in str(answers[0])
            assert (await store.page()).tasks == []

        async with asyncio.timeout(A_SECOND):
            await pending(store, "next")
        assert [task.id for task in (await store.page()).tasks] == ["next"]


async def test_a_full_disk_is_told_and_passes(store: TaskStore, database: Path) -> None:
    """What does not fit is not there, not even in part; what was there still is, and what fits again is written."""
    await pending(store, "before")
    (used,) = rows(database, "PRAGMA page_count")[0]
    _limit_pages(store, used + 2)
    large = a_payload("large", data={"text": "x" * 100_000})

    answers = await asyncio.gather(
        store.add(a_payload("small"), START), store.add(large, START), return_exceptions=True
    )

    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert [task.id for task in (await store.page()).tasks] == ["before"]
    _limit_pages(store, 1_000_000)
    await store.add(large, START)
    assert [task.id for task in (await store.page()).tasks] == ["large", "before"]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


async def test_a_vanished_folder_is_told(store: TaskStore, database: Path) -> None:
    """A disk that is gone when a connection is needed is unavailable, for writing and for reading."""
    await store._readers.dispose()
    shutil.rmtree(database.parent)

    with pytest.raises(StoreUnavailable):
        await pending(store)
    with pytest.raises(StoreUnavailable):
        await store.find("a")
    # aiosqlite does not wait for the thread of a connection that could not be opened.
    await eventually(lambda: not any("connection_worker" in thread.name for thread in threading.enumerate()))


async def test_a_missing_table_is_a_failed_query(store: TaskStore, database: Path) -> None:
    """No waiting helps against it, and the store says so by another error."""
    change(database, "DROP TABLE tasks")

    with pytest.raises(QueryFailed, match="no such table"):
        await pending(store)
    with pytest.raises(QueryFailed, match="no such table"):
        await store.find("a")


async def test_what_arrived_before_the_end_is_written(database: Path) -> None:
    """A process that stops commits what it was given, and takes nothing more."""
    async with open_store(database, system_clock) as store:
        writing = [asyncio.ensure_future(pending(store, str(number))) for number in range(50)]
        await asyncio.sleep(0)

    await asyncio.gather(*writing)
    with pytest.raises(StoreUnavailable, match="closing"):
        await pending(store, "late")
    assert rows(database, "SELECT count(*) FROM tasks") == [(50,)]


async def test_a_file_in_any_folder_is_opened(tmp_path: Path) -> None:
    """A path is a path, whatever its characters would mean in a URL."""
    path = tmp_path / "a b?c#d%20&é" / "tasks@host.db"
    upgrade(path)

    async with open_store(path, system_clock) as store:
        await pending(store)

    assert rows(path, "SELECT id FROM tasks") == [("a",)]
    assert _names(tmp_path) == [path.parent.name]


async def test_a_store_needs_its_file(tmp_path: Path) -> None:
    """It is the migrate service's to make; the sentence says so."""
    with pytest.raises(StoreUnreachable, match="run the migrate service first"):
        await _open(tmp_path / "tasks.db")

    assert _names(tmp_path) == []


async def test_a_store_needs_its_folder(tmp_path: Path) -> None:
    """A volume that is not there is not made up."""
    with pytest.raises(FolderNotWritable, match="does not exist"):
        await _open(tmp_path / "missing" / "tasks.db")


@pytest.mark.parametrize(
    "statement", ["UPDATE alembic_version SET version_num = '9999'", "DROP TABLE alembic_version", "VACUUM"]
)
async def test_a_store_needs_the_schema_that_it_knows(database: Path, statement: str) -> None:
    """An older, a newer and no schema are refused, and the sentence names what is needed."""
    change(database, statement)
    if statement == "VACUUM":
        await _open(database)
        return

    with pytest.raises(SchemaUnknown, match=f"needs revision {SCHEMA_REVISION}"):
        await _open(database)


async def test_a_store_refuses_an_old_sqlite_for_a_shared_file(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is alone with its file may use it."""
    monkeypatch.setattr(sqlite, "use_bundled_sqlite", lambda: (3, 46, 1))

    with pytest.raises(SQLiteTooOld):
        await _open(database)
    await _open(database, shared_file=False)


async def test_a_store_refuses_a_network_file_system(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it opens the file."""
    monkeypatch.setattr(sqlite, "file_system_of", lambda *_: "nfs4")

    with pytest.raises(NetworkFileSystem):
        await _open(database)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """And not touched."""
    file = tmp_path / "tasks.db"
    file.write_text("these are my holiday notes " * 100)

    with pytest.raises(DatabaseDamaged):
        await _open(file)

    assert file.read_text().startswith("these are my holiday notes")


async def _open(path: Path, *, shared_file: bool = True) -> None:
    async with open_store(path, system_clock, shared_file=shared_file):
        """It opens."""


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _make_children(connection: Connection, items: Sequence[None]) -> Sequence[None]:
    """Their parents are looked for at the commit, and not before."""
    connection.exec_driver_sql("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    connection.exec_driver_sql(
        "CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    return items


def _add_orphans(connection: Connection, items: Sequence[None]) -> Sequence[None]:
    connection.exec_driver_sql("INSERT INTO children VALUES (1)")
    return items


def _limit_pages(store: TaskStore, pages: int) -> None:
    """The disk of the writing connection has room for so many pages."""
    with store._writer._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


@contextmanager
def _commits(store: TaskStore) -> Iterator[list[Connection]]:
    """The commits of the store's writer during the block."""
    commits: list[Connection] = []
    note = commits.append
    engine = store._writer._engine
    event.listen(engine, "commit", note)
    try:
        yield commits
    finally:
        event.remove(engine, "commit", note)
