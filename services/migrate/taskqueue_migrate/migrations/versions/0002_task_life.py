"""A task's whole life: what clients may ask for, what became of each attempt, who works, and what recurs."""  # noqa: INP001

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds to `tasks`, keeping every row, and makes the four tables beside it."""
    _extend_tasks()
    _index_tasks()
    _create_tables()


def _extend_tasks() -> None:
    for column in (
        sa.Column("action", sa.Text()),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("timeout", sa.Integer()),
        sa.Column("max_attempts", sa.Integer()),
        sa.Column("run_at", sa.BigInteger()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("tags", sa.Text()),
        sa.Column("traceparent", sa.Text()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("schedule_id", sa.Text()),
        sa.Column("lost", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("alone", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("history", sa.Text()),
        sa.Column("progress", sa.Text()),
        sa.Column("cancel_requested_at", sa.BigInteger()),
    ):
        op.add_column("tasks", column)
    op.execute("ALTER TABLE tasks RENAME COLUMN handed_back TO forgiven")
    tasks = sa.table(
        "tasks", sa.column("action"), sa.column("payload"), sa.column("processed_at"), sa.column("ended_at")
    )
    # A damaged payload has no action, and must not keep all the others from what is new.
    readable = sa.case((sa.func.json_valid(tasks.c.payload), tasks.c.payload), else_="{}")
    op.execute(tasks.update().values(action=sa.func.json_extract(readable, "$.action")))
    # To the second is all that was known.
    op.execute(tasks.update().values(ended_at=tasks.c.processed_at * 1000).where(tasks.c.processed_at.is_not(None)))


def _index_tasks() -> None:
    op.drop_index("ix_tasks_queued_at", "tasks")
    op.create_index(
        "ix_tasks_queued", "tasks", ["priority", "queued_at"], sqlite_where=sa.text("queued_at IS NOT NULL")
    )
    op.create_index("ix_tasks_action_accepted_at", "tasks", ["action", "accepted_at"])
    for column, unique in (("idempotency_key", True), ("cancel_requested_at", False)):
        op.create_index(
            f"ix_tasks_{column}", "tasks", [column], unique=unique, sqlite_where=sa.text(f"{column} IS NOT NULL")
        )


def _create_tables() -> None:
    op.create_table(
        "task_tags",
        sa.Column("tag", sa.Text(), primary_key=True),
        sa.Column("accepted_at", sa.BigInteger(), primary_key=True),
        sa.Column("task_id", sa.Text(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "changes",
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text()),
        sa.Column("interval", sa.BigInteger()),
        sa.Column("timezone", sa.Text(), nullable=False, server_default="UTC"),
        sa.Column("missed", sa.Text(), nullable=False, server_default="run"),
        sa.Column("paused", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("last_at", sa.BigInteger()),
        sa.Column("last_task_id", sa.Text()),
    )
    op.create_index("ix_schedules_next_at", "schedules", ["next_at"])
