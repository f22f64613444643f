"""Creates the table `tasks`. Frozen: what a released migration makes never changes; the next one changes it."""  # noqa: INP001

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the table and the indexes that lists, sweeps and the search for lost messages need."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, server_default="pending"),
        sa.Column("result", sa.Text()),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("processed_at", sa.Integer()),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("queued_at", sa.BigInteger()),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("handed_back", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("worker", sa.Text()),
        sa.Column("error", sa.Text()),
    )
    op.create_index("ix_tasks_accepted_at", "tasks", ["accepted_at"])
    op.create_index("ix_tasks_status_accepted_at", "tasks", ["status", "accepted_at"])
    op.create_index("ix_tasks_due_at", "tasks", ["due_at"], sqlite_where=sa.text("due_at IS NOT NULL"))
    op.create_index("ix_tasks_queued_at", "tasks", ["queued_at"], sqlite_where=sa.text("queued_at IS NOT NULL"))
