"""What the migrations make is what the services read and write."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine

from taskqueue.store.sqlite import use_bundled_sqlite
from taskqueue.store.tables import SCHEMA_REVISION, metadata
from taskqueue_migrate.runner import MIGRATIONS, upgrade

Rows = set[tuple[object, ...]]


def test_autogenerate_finds_no_difference(migrated: Connection) -> None:
    """Alembic, asked to compare types and defaults too, would write an empty migration."""
    context = MigrationContext.configure(migrated, opts={"compare_type": True, "compare_server_default": True})

    assert compare_metadata(context, metadata) == []


def test_columns_are_the_same_to_sqlite(migrated: Connection, declared: Connection) -> None:
    """Names, types, NOT NULL, defaults and primary keys are equal as SQLite itself reads them."""
    assert _columns(declared)
    assert _columns(declared) == _columns(migrated)


def test_indexes_are_the_same_to_sqlite(migrated: Connection, declared: Connection) -> None:
    """Indexes are equal to the word, the conditions of partial ones included, which Alembic does not compare."""
    assert any("WHERE" in str(sql) for _, sql in _indexes(declared))
    assert _indexes(declared) == _indexes(migrated)


def test_there_is_one_newest_revision_and_the_services_know_it() -> None:
    """The migrations end in exactly one head: the revision that services ask for at their start."""
    assert _scripts().get_heads() == [SCHEMA_REVISION]


def test_migrations_are_numbered_in_one_line() -> None:
    """Revisions are 0001, 0002 …, each after the one before, in files that start with their number."""
    scripts = list(reversed(list(_scripts().walk_revisions())))
    numbers = [f"{number:04}" for number in range(1, len(scripts) + 1)]

    assert numbers == [script.revision for script in scripts]
    assert [None, *numbers[:-1]] == [script.down_revision for script in scripts]
    assert numbers == [Path(script.path).name[:4] for script in scripts]


def test_migrations_are_frozen() -> None:
    """No migration imports code of ours, which changes: what it made once, it makes always."""
    files = list((MIGRATIONS / "versions").glob("*.py"))

    assert files
    assert {"alembic", "sqlalchemy"} >= {name.partition(".")[0] for file in files for name in _imports(file)}


@pytest.fixture(name="migrated")
def _migrated(tmp_path: Path) -> Iterator[Connection]:
    use_bundled_sqlite()
    upgrade(tmp_path / "tasks.db")
    engine = create_engine(URL.create("sqlite", database=str(tmp_path / "tasks.db")))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(name="declared")
def _declared() -> Iterator[Connection]:
    use_bundled_sqlite()
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _columns(connection: Connection) -> Rows:
    return _rows(
        connection,
        """SELECT t.name, c.name, upper(c.type), c."notnull", c.dflt_value, c.pk, c.hidden
           FROM sqlite_master t, pragma_table_xinfo(t.name) c
           WHERE t.type = 'table' AND t.name <> 'alembic_version'""",
    )


def _indexes(connection: Connection) -> Rows:
    return _rows(
        connection, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name <> 'alembic_version'"
    )


def _rows(connection: Connection, question: str) -> Rows:
    return {tuple(row) for row in connection.exec_driver_sql(question)}


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
