"""What embedded mode needs to know: all that its API and its worker do, but no broker."""

from pydantic import Field

from taskqueue.events import LogFormat
from taskqueue.settings import StoreSettings
from taskqueue_api.settings import HttpSettings
from taskqueue_worker.settings import WorkSettings


class EmbeddedSettings(HttpSettings, WorkSettings, StoreSettings):
    """Everything embedded mode is told from outside."""

    log_format: LogFormat = Field(default="console", description="`json` for machines, `console` for people")
