"""What every peer's app shares: where it is told what to use, the work itself, and how a result is kept."""

import json
import os
import sys
import time
from typing import Any, Final

BROKER_URL: Final = os.environ["BENCH_BROKER_URL"]
RESULTS: Final = os.environ["BENCH_RESULTS"]
SYNCHRONOUS: Final = os.environ["BENCH_SYNCHRONOUS"]
CONCURRENCY: Final = 10
BUSY_TIMEOUT_SECONDS: Final = 30
RECORD: Final = "INSERT OR REPLACE INTO results (id, result, processed_at) VALUES (?, ?, ?)"


def use_one_sqlite() -> None:
    """Gives everybody the SQLite that ours uses, where the wheel is there. Before aiosqlite is imported."""
    try:
        import pysqlite3  # noqa: PLC0415 - there is no wheel for every platform
    except ImportError:
        return
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2


def perform(action: str, data: dict[str, Any]) -> dict[str, Any]:
    """The work."""
    return {"output": data.get("text", "").upper()} if action == "uppercase" else {"output": "processed"}


def row(task_id: str, result: dict[str, Any]) -> tuple[str, str, int]:
    """The parameters of `RECORD`."""
    return task_id, json.dumps(result), int(time.time())
