"""Settings, in the pieces that services put together. Read once, by a `__main__`; every fault is reported at once."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskqueue.errors import InvalidSettings
from taskqueue.events import LogFormat
from taskqueue.failpoints import checked

PREFIX: Final = "TASKQUEUE_"
SECRETS_FOLDER: Final = Path("/run/secrets")


def _sqlite_url(url: str) -> str:
    if not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///").strip("/"):
        raise ValueError("must be sqlite:///PATH (a fourth slash starts an absolute path)")
    return url


def _amqp_url(url: SecretStr) -> SecretStr:
    if url.get_secret_value().startswith("memory:"):
        raise ValueError("memory:// works only in embedded mode, where API and worker are one process")
    if not _is_address(url.get_secret_value()):
        raise ValueError("must be amqp://USER@HOST or amqps://USER@HOST")
    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may hold a piece of a password
        return False


def _readable(file: Path | None) -> Path | None:
    if file is not None and not os.access(file, os.R_OK):
        raise ValueError(f"cannot be read by user {os.getuid()}: {file}")
    return file


class Settings(BaseSettings):
    """The ground of every settings class: variables that start with `TASKQUEUE_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)


class LogSettings(Settings):
    """How this process reports what it does."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level logged")
    log_format: LogFormat = Field(default="json", description="`json` for machines, `console` for people")
    failpoints: Annotated[str, AfterValidator(checked)] = Field(
        default="", description="for tests alone: points at which this process is killed, stalled or made to fail"
    )


class ProcessSettings(LogSettings):
    """What every process that stays up needs to know."""

    shutdown_grace_seconds: float = Field(
        default=20, gt=0, le=3600, description="seconds from SIGTERM until running work is cut off"
    )


class StoreSettings(Settings):
    """Where tasks are kept."""

    database_url: Annotated[str, AfterValidator(_sqlite_url)] = Field(
        default="sqlite:///./data/tasks.db", description="where tasks are kept"
    )

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))


class BrokerSettings(Settings):
    """Where ready tasks wait."""

    broker_url: Annotated[SecretStr, AfterValidator(_amqp_url)] = Field(
        default=SecretStr("amqp://taskqueue@localhost:5672/"), description="the RabbitMQ to use"
    )
    broker_password: SecretStr | None = Field(
        default=None, description="the password for `BROKER_URL`, where it is not part of it"
    )

    broker_password_file: Annotated[Path | None, AfterValidator(_readable)] = Field(
        default=None, description="file with that password, read anew for each connection"
    )

    def full_broker_url(self) -> str:
        """The broker's URL with its password, as its file has it now: a secret, not for logs.

        Raises OSError where that file cannot be read any more.
        """
        parts = urlsplit(self.broker_url.get_secret_value())
        password = self._password()
        if password is None:
            return urlunsplit(parts)
        address = parts.netloc.rpartition("@")[2]
        password = quote(password, safe="")
        return urlunsplit(parts._replace(netloc=f"{parts.username or 'taskqueue'}:{password}@{address}"))

    def _password(self) -> str | None:
        if self.broker_password is not None:
            return self.broker_password.get_secret_value()
        return self.broker_password_file.read_text().strip() if self.broker_password_file else None


class AttemptSettings(Settings):
    """How often a task is tried."""

    max_attempts: int = Field(default=5, ge=1, le=1000, description="attempts before a task is `failed`")


class RetentionSettings(Settings):
    """How long tasks are kept."""

    retention_days: float = Field(
        default=30, ge=0, le=36_500, description="days after which a finished task is removed; 0 keeps all"
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings: type[SettingsT]) -> SettingsT:
    """The settings of this process. Raises InvalidSettings with every fault, each under its variable's name."""
    try:
        return settings(_secrets_dir=SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None)
    except ValidationError as error:
        raise InvalidSettings("; ".join(_faults(error))) from None


def _faults(error: ValidationError) -> list[str]:
    return [
        f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
