"""What the API needs to know."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from taskqueue.settings import AttemptSettings, BrokerSettings, ProcessSettings, RetentionSettings, StoreSettings


class HttpSettings(ProcessSettings):
    """Where the API listens."""

    host: str = Field(default="127.0.0.1", description="address that the API listens on")
    host_names: str | None = Field(
        default=None,
        description="without keys: the names, but `localhost`, that clients ask by; `*` is any; "
        "unset, none on loopback and any elsewhere",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="port that the API listens on")
    api_keys_file: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = Field(
        default=None, description="file of the keys that requests must come with; without it everybody may do all"
    )
    rate_limit: float = Field(
        default=0, ge=0, le=1_000_000, description="requests a second of a key, or else of an address; 0 is no bound"
    )
    max_waiting: int = Field(
        default=0, ge=0, description="tasks that may be pending and queued; beyond it POST answers 503; 0 is no bound"
    )
    max_connections: int = Field(
        default=5000, ge=1, le=1_000_000, description="connections at once; beyond it the idlest one is closed"
    )
    max_streams: int = Field(
        default=1000, ge=0, le=100_000, description="clients that wait for tasks or listen to events at once"
    )


class ApiSettings(HttpSettings, StoreSettings, BrokerSettings, AttemptSettings, RetentionSettings):
    """Everything the API service is told from outside."""
