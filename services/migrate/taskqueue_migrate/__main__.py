"""`python -m taskqueue_migrate`: makes the schema and exits; `--check` only says whether it is there."""

import argparse
import sys
from collections.abc import Callable

from taskqueue import events
from taskqueue.errors import InvalidSettings, StartRefused
from taskqueue.events import configure_logging
from taskqueue.lifecycle import arm_failpoints, refuse
from taskqueue.settings import load
from taskqueue_migrate.runner import is_at_head, upgrade
from taskqueue_migrate.settings import MigrateSettings


def main() -> None:
    """Ends the process with 0: done, or nothing to do. Else with the code of its refusal, or 1; see `errors`."""
    task = _check if _parser().parse_args().check else _upgrade
    sys.exit(_run(task))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taskqueue-migrate", description="Brings the database of TASKQUEUE_DATABASE_URL to the newest schema."
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 0 if the schema is the newest, 1 if it is not"
    )
    return parser


def _run(task: Callable[[MigrateSettings], int]) -> int:
    try:
        settings = load(MigrateSettings)
    except InvalidSettings as error:
        configure_logging("INFO", "json")
        return refuse(error)
    configure_logging(settings.log_level, settings.log_format)
    arm_failpoints(settings.failpoints)
    try:
        return task(settings)
    except StartRefused as error:
        return refuse(error)


def _upgrade(settings: MigrateSettings) -> int:
    upgrade(settings.database_path)
    return 0


def _check(settings: MigrateSettings) -> int:
    if is_at_head(settings.database_path):
        events.emit(events.SCHEMA_MADE)
        return 0
    events.emit(events.SCHEMA_MISSING)
    return 1


if __name__ == "__main__":
    main()
