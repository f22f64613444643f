"""How many tasks were ever accepted, and how many are removed: what an audit holds the rows against."""  # noqa: INP001

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the table of tallies; whoever is there now counts as accepted."""
    tallies = op.create_table(
        "tallies",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("tally", sa.BigInteger(), nullable=False),
    )
    rows = sa.select(sa.func.count()).select_from(sa.table("tasks")).scalar_subquery()
    op.execute(tallies.insert().values(name="accepted", tally=rows))
    op.execute(tallies.insert().values(name="removed", tally=0))
