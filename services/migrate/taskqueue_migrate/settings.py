"""What the migrate service is told from outside."""

from taskqueue.settings import LogSettings, StoreSettings


class MigrateSettings(StoreSettings, LogSettings):
    """Where the database is, and how to report."""
