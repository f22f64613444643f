"""The tables, as every service reads and writes them. The migrate service alone creates and changes them."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, text

SCHEMA_REVISION: Final = "0003"
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
    Column("forgiven", Integer, nullable=False, server_default="0", comment="attempts that do not count: see below"),
    Column("worker", Text, comment="who claimed its last attempt"),
    Column("error", Text, comment="what its last failed attempt said"),
    # What a client may ask for, and what came of it. Durations, too, are in milliseconds.
    Column("action", Text),
    Column("priority", Integer, nullable=False, server_default="0", comment="0 normal, 5 high"),
    Column("timeout", Integer, comment="what an attempt may take, where the task or its action says so"),
    Column("max_attempts", Integer, comment="where the task or its action says so"),
    Column("run_at", BigInteger, comment="not to be started before"),
    Column("expires_at", BigInteger, comment="not to be started at or after"),
    Column("tags", Text, comment="a JSON array of strings"),
    Column("traceparent", Text, comment="the client's trace (w3.org/TR/trace-context)"),
    Column("idempotency_key", Text),
    Column("fingerprint", Text, comment="of the body that came with the idempotency key"),
    Column("schedule_id", Text, comment="the schedule that made it"),
    Column("lost", Integer, nullable=False, server_default="0", comment="attempts that ended with their worker"),
    Column("alone", Integer, nullable=False, server_default="0", comment="whether its last attempt had no neighbour"),
    Column("ended_at", BigInteger, comment="when it became final"),
    Column("history", Text, comment="its ended attempts: JSON objects, separated by commas"),
    Column("progress", Text, comment="what its handler last reported, as JSON"),
    Column("cancel_requested_at", BigInteger, comment="while it runs, and somebody has called it off"),
)
# Forgiven are an attempt handed back at a shutdown, one lost with its worker beside others, all before a retry by hand.

task_tags = Table(
    "task_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("accepted_at", BigInteger, primary_key=True),
    Column("task_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True, comment="in the order of commits: what a reader of events continues from"),
    Column("task_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("detail", Text, comment="JSON: a progress, or an error"),
    sqlite_autoincrement=True,
)
"""What became of tasks: accepted, begun, in progress, to be tried again, final. What the broker holds is not in it."""

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("actions", Text, nullable=False, comment='JSON: {name: {"description": …, "schema": …}}'),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("data", Text, nullable=False, comment="a JSON object"),
    Column("options", Text, nullable=False, comment="JSON: the options of each task that it makes"),
    Column("cron", Text, comment="or else `interval`"),
    Column("interval", BigInteger, comment="milliseconds"),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    Column(
        "missed", Text, nullable=False, server_default="run", comment="run (once) or skip what no process was there for"
    ),
    Column("paused", Integer, nullable=False, server_default="0"),
    Column("created_at", Integer, nullable=False, comment="Unix seconds, shown to clients"),
    Column("next_at", BigInteger, comment="its next tick"),
    Column("last_at", BigInteger, comment="its last tick"),
    Column("last_task_id", Text),
)

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True, comment="accepted, removed"),
    Column("tally", BigInteger, nullable=False, comment="how many tasks, ever"),
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
Index("ix_tasks_queued", tasks.c.priority, tasks.c.queued_at, sqlite_where=text("queued_at IS NOT NULL"))
Index("ix_tasks_action_accepted_at", tasks.c.action, tasks.c.accepted_at)
Index(
    "ix_tasks_idempotency_key", tasks.c.idempotency_key, unique=True, sqlite_where=text("idempotency_key IS NOT NULL")
)
Index("ix_tasks_cancel_requested_at", tasks.c.cancel_requested_at, sqlite_where=text("cancel_requested_at IS NOT NULL"))
Index("ix_schedules_next_at", schedules.c.next_at)
