"""What a process is told from outside: read once, faults all at once, secrets kept."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from taskqueue import settings
from taskqueue.errors import InvalidSettings
from taskqueue.settings import AttemptSettings, BrokerSettings, ProcessSettings, StoreSettings, load

PASSWORD = "p@ss/w:rd#100%é?"
QUOTED = "p%40ss%2Fw%3Ard%23100%25%C3%A9%3F"


class Everything(ProcessSettings, AttemptSettings, StoreSettings, BrokerSettings):
    """A service that needs every shared piece."""


def test_every_setting_has_a_default() -> None:
    """A process that is told nothing starts with values that work on a developer's machine."""
    defaults = load(Everything)

    assert (defaults.log_level, defaults.log_format) == ("INFO", "json")
    assert (defaults.max_attempts, defaults.shutdown_grace_seconds) == (5, 20)
    assert defaults.database_path == Path("data/tasks.db")
    assert defaults.full_broker_url() == "amqp://taskqueue@localhost:5672/"


def test_variables_start_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only TASKQUEUE_ variables count."""
    monkeypatch.setenv("MAX_ATTEMPTS", "7")
    assert load(Everything).max_attempts == 5

    monkeypatch.setenv("TASKQUEUE_MAX_ATTEMPTS", "7")
    assert load(Everything).max_attempts == 7


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start names each bad variable; nobody has to start a process again for each."""
    _set(
        monkeypatch,
        LOG_LEVEL="chatty",
        MAX_ATTEMPTS="0",
        SHUTDOWN_GRACE_SECONDS="soon",
        DATABASE_URL="postgres://elsewhere",
        BROKER_URL="http://elsewhere",
    )

    refusal = _refusal()

    for name in ("LOG_LEVEL", "MAX_ATTEMPTS", "SHUTDOWN_GRACE_SECONDS", "DATABASE_URL", "BROKER_URL"):
        assert f"TASKQUEUE_{name}: " in refusal
    assert refusal.count("; ") == 4
    assert "Value error" not in refusal


def test_bad_settings_have_an_exit_code_of_their_own() -> None:
    """A supervisor can tell them from a crash."""
    assert InvalidSettings.exit_code == 2


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:///./data/tasks.db", "data/tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:////var/lib/a b?c#d%20.db", "/var/lib/a b?c#d%20.db"),
    ],
)
def test_the_database_is_a_file(monkeypatch: pytest.MonkeyPatch, url: str, path: str) -> None:
    """Three slashes start a relative path, four an absolute one; the rest of the URL is the path as it is."""
    _set(monkeypatch, DATABASE_URL=url)

    assert load(Everything).database_path == Path(path)


@pytest.mark.parametrize("url", ["", "tasks.db", "sqlite://", "sqlite:///", "sqlite:////", "postgresql://host/tasks"])
def test_a_database_that_is_no_file_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The sentence shows the form."""
    _set(monkeypatch, DATABASE_URL=url)

    assert _refusal() == "TASKQUEUE_DATABASE_URL: must be sqlite:///PATH (a fourth slash starts an absolute path)"


@pytest.mark.parametrize("url", ["memory://", "memory://anything"])
def test_a_memory_broker_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Two processes cannot share one, and the sentence says where it works."""
    _set(monkeypatch, BROKER_URL=url)

    assert _refusal().startswith("TASKQUEUE_BROKER_URL: memory:// works only in embedded mode")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("rabbitmq", id="a name"),
        pytest.param("http://taskqueue@rabbitmq", id="another protocol"),
        pytest.param("amqp://", id="no host"),
        pytest.param("amqp://taskqueue@", id="no host, but a user"),
        pytest.param("amqp://taskqueue@rabbitmq:port/", id="a port that is no number"),
        pytest.param("amqp://taskqueue@rabbitmq:99999/", id="a port that no host has"),
        pytest.param("amqp://taskqueue@[::1/", id="half an address"),
    ],
)
def test_a_broker_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Before the start, since nobody would see a process that never connects."""
    _set(monkeypatch, BROKER_URL=url)

    assert _refusal() == "TASKQUEUE_BROKER_URL: must be amqp://USER@HOST or amqps://USER@HOST"


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("amqp://rabbitmq", f"amqp://taskqueue:{QUOTED}@rabbitmq"),
        ("amqp://worker@rabbitmq:5672/", f"amqp://worker:{QUOTED}@rabbitmq:5672/"),
        ("amqps://worker:old@rabbitmq/%2Fmine", f"amqps://worker:{QUOTED}@rabbitmq/%2Fmine"),
        ("amqp://wor%40ker@[::1]:5672/", f"amqp://wor%40ker:{QUOTED}@[::1]:5672/"),
        ("amqps://rabbitmq/?cafile=/ca.pem", f"amqps://taskqueue:{QUOTED}@rabbitmq/?cafile=/ca.pem"),
    ],
)
def test_the_password_is_put_into_the_url(monkeypatch: pytest.MonkeyPatch, url: str, full: str) -> None:
    """Quoted, so that no character of it changes what the URL says."""
    _set(monkeypatch, BROKER_URL=url, BROKER_PASSWORD=PASSWORD)

    assert load(Everything).full_broker_url() == full


def test_a_url_with_its_own_password_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The separate password is optional."""
    _set(monkeypatch, BROKER_URL="amqp://worker:secret@rabbitmq/")

    assert load(Everything).full_broker_url() == "amqp://worker:secret@rabbitmq/"


@pytest.mark.parametrize("name", ["TASKQUEUE_BROKER_PASSWORD", "taskqueue_broker_password"])
def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """A file named after the variable holds the value, with or without a line end."""
    monkeypatch.setattr(settings, "SECRETS_FOLDER", tmp_path)
    (tmp_path / name).write_text(f"{PASSWORD}\n")

    assert load(Everything).broker_password == SecretStr(PASSWORD)


def test_a_variable_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is nearer to the process counts."""
    monkeypatch.setattr(settings, "SECRETS_FOLDER", tmp_path)
    (tmp_path / "taskqueue_broker_password").write_text("from a file")
    _set(monkeypatch, BROKER_PASSWORD="from a variable")

    assert load(Everything).broker_password == SecretStr("from a variable")


def test_no_folder_of_secrets_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Outside of containers there is none."""
    monkeypatch.setattr(settings, "SECRETS_FOLDER", tmp_path / "missing")

    assert load(Everything).broker_password is None


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the password nor a URL that may hold one is in any form that ends in a log."""
    _set(monkeypatch, BROKER_URL="amqp://worker:hunter2@rabbitmq/", BROKER_PASSWORD="hunter2")

    loaded = load(Everything)

    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), f"{loaded.model_dump()}"):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "http://worker:hunter2@rabbitmq/",
        "amqp://worker:hunter2/more@rabbitmq/",
        "amqp://worker:hunter2@[rabbitmq/",
        "memory://worker:hunter2@rabbitmq/",
        "amqp://worker:hunter2@rabbitmq:hunter2/",
    ],
)
def test_no_secret_is_shown_in_a_refusal(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A URL is refused without being repeated, cause and context of the error included."""
    _set(monkeypatch, BROKER_URL=url, MAX_ATTEMPTS="hunter2")

    with pytest.raises(InvalidSettings) as refusal:
        load(Everything)

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def _set(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    given: Mapping[str, str] = values
    for name, value in given.items():
        monkeypatch.setenv(f"TASKQUEUE_{name}", value)


def _refusal() -> str:
    with pytest.raises(InvalidSettings) as refusal:
        load(Everything)
    return str(refusal.value)
