"""The tables, as every service reads and writes them. The migrate service alone creates and changes them."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, text

SCHEMA_REVISION: Final = "0001"
"""The newest revision of the schema that this version knows; a test holds it against the migrations."""

metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    # What clients see.
    Column("id", Text, primary_key=True),
    Column("payload", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("result", Text),
    Column("created_at", Integer, nullable=False, comment="Unix seconds, shown to clients"),
    Column("processed_at", Integer, comment="Unix seconds at which the task became final, shown to clients"),
    # What the design adds. Instants are in milliseconds unless they say otherwise.
    Column("accepted_at", BigInteger, nullable=False, comment="microseconds, strictly growing in a process: the order"),
    Column("due_at", BigInteger, comment="when it must be dispatched unless something happens first"),
    Column("queued_at", BigInteger, comment="when its message was made, while it is queued"),
    Column("started_at", BigInteger, comment="when its last attempt began"),
    Column("attempt", Integer, nullable=False, server_default="0", comment="claims so far: the fencing token"),
    Column("handed_back", Integer, nullable=False, server_default="0", comment="attempts that a shutdown cut short"),
    Column("worker", Text, comment="who claimed its last attempt"),
    Column("error", Text, comment="what its last failed attempt said"),
)

status_of_row: Final = tasks.c.status.concat("")
"""The status as a guard on rows that another index finds.

Without statistics SQLite takes `status = …` for a better search than it is, and walks every row of that status; an
expression cannot be searched for (sqlite.org/optoverview.html, disqualifying terms).
"""

revision = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""Alembic's own table, which says at which revision the schema is."""

Index("ix_tasks_accepted_at", tasks.c.accepted_at)
Index("ix_tasks_status_accepted_at", tasks.c.status, tasks.c.accepted_at)
Index("ix_tasks_due_at", tasks.c.due_at, sqlite_where=text("due_at IS NOT NULL"))
Index("ix_tasks_queued_at", tasks.c.queued_at, sqlite_where=text("queued_at IS NOT NULL"))
