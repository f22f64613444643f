"""What the API needs to know."""

from pydantic import Field

from taskqueue.settings import AttemptSettings, BrokerSettings, ProcessSettings, RetentionSettings, StoreSettings


class HttpSettings(ProcessSettings):
    """Where the API listens."""

    host: str = Field(default="127.0.0.1", description="address that the API listens on")
    port: int = Field(default=8080, ge=0, le=65_535, description="port that the API listens on")
    max_streams: int = Field(
        default=1000, ge=0, le=100_000, description="clients that wait for tasks or listen to events at once"
    )


class ApiSettings(HttpSettings, StoreSettings, BrokerSettings, AttemptSettings, RetentionSettings):
    """Everything the API service is told from outside."""
