"""What a worker needs to know."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from taskqueue.settings import AttemptSettings, BrokerSettings, ProcessSettings, RetentionSettings, StoreSettings

UnknownAction = Literal["process", "fail"]


class WorkSettings(AttemptSettings, RetentionSettings, ProcessSettings):
    """How a worker works, wherever its broker and its store are."""

    channels: int = Field(default=2, ge=1, le=100, description="channels that a worker consumes on")
    prefetch_count: int = Field(
        default=5, ge=1, le=1000, description="tasks that a worker performs at once per channel"
    )
    lease_seconds: float = Field(
        default=30, ge=5, le=86_400, description="seconds after which a worker that fell silent loses its tasks"
    )
    task_timeout_seconds: float = Field(default=300, gt=0, le=86_400, description="seconds that an attempt may take")
    simulated_work_seconds: float = Field(
        default=0.1, ge=0, le=3600, description="seconds that the built-in actions pretend to work"
    )
    unknown_action: UnknownAction = Field(
        default="process", description="what becomes of a task whose action nobody has: `process` or `fail`"
    )
    actions: str = Field(default="", description="modules that hold actions of your own, separated by commas")

    @property
    def concurrency(self) -> int:
        """How many tasks a worker performs at once."""
        return self.channels * self.prefetch_count

    @property
    def action_modules(self) -> list[str]:
        """The names of the modules in `actions`."""
        return [name.strip() for name in self.actions.split(",") if name.strip()]


class WorkerSettings(WorkSettings, StoreSettings, BrokerSettings):
    """Everything the worker service is told from outside."""

    health_file: Path | None = Field(
        default=None, description="file in which a worker notes its health, for its health check; set in the image"
    )
