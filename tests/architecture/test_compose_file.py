"""The compose file and the images keep to the rules that make them safe to start."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskqueue.errors import InvalidSettings
from taskqueue.requests import MAX_TIMEOUT_SECONDS
from taskqueue.settings import PREFIX, ProcessSettings, Settings
from taskqueue_api.access.keyfile import KeyFile
from taskqueue_api.settings import ApiSettings, HttpSettings
from taskqueue_migrate.settings import MigrateSettings
from taskqueue_worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
OURS: dict[str, type[Settings]] = {"api": ApiSettings, "worker": WorkerSettings, "migrate": MigrateSettings}
CONTAINERS = ["rabbitmq", "broker-users", *OURS]
STAYING = ["rabbitmq", "api", "worker"]
# Other processes of a container, and whoever inspects it, read its environment: a password stands in a file.
NEVER_A_VARIABLE = {"TASKQUEUE_BROKER_PASSWORD"}
SET_BY_THE_IMAGE = {"TASKQUEUE_HOST", "TASKQUEUE_PORT", "TASKQUEUE_HEALTH_FILE"}

Service = dict[str, Any]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_can_change_nothing_but_its_volumes(name: str) -> None:
    """Its file system is read-only, and it holds no capability and can gain none."""
    service = _service(name)

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_rabbitmq_waits_longer_for_a_worker_than_any_attempt_may_take() -> None:
    """So a task's own timeout always comes first, whoever set it; settings allow no longer one than tasks do."""
    conf = (ROOT / "services/rabbitmq/taskqueue.conf").read_text()
    (waits,) = re.findall(r"^consumer_timeout = (\d+)$", conf, re.MULTILINE)
    settings = WorkerSettings.model_json_schema()["properties"]

    assert settings["task_timeout_seconds"]["maximum"] == MAX_TIMEOUT_SECONDS
    assert int(waits) > 1_000 * (MAX_TIMEOUT_SECONDS + settings["lease_seconds"]["default"])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_cannot_take_the_whole_machine(name: str) -> None:
    """Its memory, its processes, its scratch space and its logs are limited."""
    service = _service(name)

    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert all("size=" in folder for folder in service.get("tmpfs", []))
    assert {"max-size", "max-file"} == set(service["logging"]["options"])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_sees_nothing_of_the_engine(name: str) -> None:
    """No container holds the engine's socket, or a folder of the machine that it could write."""
    mounted = [volume.split(":") for volume in _service(name)["volumes"]]

    assert all(parts[0] in _compose()["volumes"] or parts[-1] == "ro" for parts in mounted)
    assert not any("docker.sock" in part for parts in mounted for part in parts)


@pytest.mark.parametrize("name", STAYING)
def test_a_container_that_stays_up_is_started_again_and_reaps_its_children(name: str) -> None:
    """A crash, an engine's restart and a dead child process leave no hole."""
    assert _service(name)["restart"] == "unless-stopped"
    assert _service(name)["init"] is True


def test_only_the_api_is_published_and_only_on_this_machine() -> None:
    """Nobody outside reaches the broker at all, or the API without a proxy in front."""
    published = {name: _service(name)["ports"] for name in CONTAINERS if "ports" in _service(name)}

    assert published == {"api": ["127.0.0.1:${API_PORTS:-8080}:8080"]}


def test_the_broker_is_in_a_network_without_a_way_out() -> None:
    """RabbitMQ and the worker are reached from inside alone; migrate is in no network."""
    assert _compose()["networks"]["broker"] == {"internal": True}
    assert _service("rabbitmq")["networks"] == ["broker"]
    assert _service("worker")["networks"] == ["broker"]
    assert _service("migrate")["network_mode"] == "none"


def test_rabbitmq_keeps_its_data() -> None:
    """Queues survive a new container."""
    assert _service("rabbitmq")["hostname"] == "rabbitmq"
    assert "rabbitmq:/var/lib/rabbitmq" in _service("rabbitmq")["volumes"]


def test_every_service_has_a_user_of_rabbitmq_of_its_own() -> None:
    """Nobody is `guest` or anybody else by default: RabbitMQ's users are those that it imports, or none."""
    configured = (ROOT / "services" / "rabbitmq" / "taskqueue.conf").read_text()

    assert "environment" not in _service("rabbitmq")
    assert "load_definitions = /run/users/definitions.json\n" in configured
    assert "loopback_users" not in configured
    for name in ("api", "worker"):
        environment = _service(name)["environment"]
        assert environment["TASKQUEUE_BROKER_URL"] == f"amqp://{name}@rabbitmq:5672/"
        assert environment["TASKQUEUE_BROKER_PASSWORD_FILE"] == "/run/broker/password"
        assert f"password-of-{name}:/run/broker:ro" in _service(name)["volumes"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_container_is_given_the_password_of_another(name: str) -> None:
    """A password is in its owner's container alone, read-only, and with who makes it; in no variable."""
    secret = [volume for volume in _service(name)["volumes"] if re.match(r"password-|users-", volume)]
    expected = {
        "rabbitmq": ["users-of-rabbitmq:/run/users:ro"],
        "broker-users": [
            *("users-of-rabbitmq:/users/rabbitmq", "password-of-api:/users/api", "password-of-worker:/users/worker"),
        ],
        "api": ["password-of-api:/run/broker:ro"],
        "worker": ["password-of-worker:/run/broker:ro"],
        "migrate": [],
    }

    assert secret == expected[name]
    assert not NEVER_A_VARIABLE & set(_service(name).get("environment", {}))
    assert "secret" not in str(_service(name).get("command", ""))


def test_the_passwords_are_made_by_a_user_who_is_not_root_and_reaches_nobody() -> None:
    """Its files belong to our services' one user, and to RabbitMQ's group; it has no network, and stays nowhere."""
    dockerfile = (ROOT / "services" / "rabbitmq" / "Dockerfile").read_text()

    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["10001:999"]
    assert "install -d -o 10001 -g 999 -m 0750 /users /users/api /users/worker /users/rabbitmq" in dockerfile
    assert _service("broker-users")["network_mode"] == "none"
    assert _service("broker-users")["restart"] == "no"


def test_a_file_of_keys_under_the_services_own_name_leaves_no_doors_open() -> None:
    """Compose has a name of its own for it, the path on the machine; where the other is set, the API does not start."""
    passed_on = _service("api")["environment"]["TASKQUEUE_API_KEYS_FILE"]

    form = r"\$\{API_KEYS_FILE:\+([^}]+)\}\$\{TASKQUEUE_API_KEYS_FILE:\+([^}]+)\}"
    [(mounted, refused)] = re.findall(f"^{form}$", passed_on)
    assert mounted == "/run/secrets/api-keys"
    with pytest.raises(InvalidSettings, match=r"^TASKQUEUE_API_KEYS_FILE: .*set API_KEYS_FILE.* cannot be used"):
        KeyFile(HttpSettings(api_keys_file=Path(refused)).api_keys_file or Path())


def test_no_public_name_leads_a_web_page_to_the_api() -> None:
    """The container listens everywhere, but its port is this machine's alone: only the setting can say so."""
    assert _service("api")["environment"]["TASKQUEUE_HOST_NAMES"] == "${TASKQUEUE_HOST_NAMES:-localhost}"


def test_a_service_starts_when_what_it_needs_is_there() -> None:
    """First RabbitMQ's users, then a healthy RabbitMQ, then the schema, then API and worker."""
    healthy = {"condition": "service_healthy"}
    ready = {"rabbitmq": healthy, "migrate": {"condition": "service_completed_successfully"}}

    users = {"broker-users": {"condition": "service_completed_successfully"}}
    assert _service("rabbitmq")["depends_on"] == users
    assert _service("migrate")["depends_on"] == {"rabbitmq": healthy}
    assert _service("migrate")["restart"] == "no"
    assert _service("api")["depends_on"] == ready
    assert _service("worker")["depends_on"] == ready


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_longer_than_it_takes_to_stop(name: str) -> None:
    """Docker kills a service only after the grace that the service itself keeps to, with seconds to spare."""
    grace: float = ProcessSettings.model_fields["shutdown_grace_seconds"].default

    assert _seconds(_default_of(_service(name)["stop_grace_period"])) >= grace + 5


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_a_service_can_be_set(name: str) -> None:
    """No setting is lost between .env and the process, and none is passed on that nobody reads."""
    settings = {f"{PREFIX}{field.upper()}" for field in OURS[name].model_fields}

    assert settings - SET_BY_THE_IMAGE - NEVER_A_VARIABLE == set(_service(name)["environment"])


def test_the_example_names_every_variable_with_its_default() -> None:
    """Whoever reads .env.example knows all that can be set, and what holds where nothing is."""
    example = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    interpolated = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()))
    passed_on = {
        name: _text(settings.model_fields[name.removeprefix(PREFIX).lower()].default)
        for service, settings in OURS.items()
        for name, value in _service(service)["environment"].items()
        if value is None
    }

    assert interpolated | passed_on == example


@pytest.mark.parametrize("name", OURS)
def test_an_image_is_made_in_two_stages(name: str) -> None:
    """What builds a service stays behind: the final image takes the environment alone, and installs nothing."""
    build, final = _stages(name)

    assert "--require-hashes" in build
    assert re.findall(r"^(?:COPY|ADD) .*$", final, re.MULTILINE) == ["COPY --from=build /venv /venv"]
    assert not re.search(r"\b(pip|apt-get|apk|curl|wget|gcc)\b", final)


@pytest.mark.parametrize("name", OURS)
def test_an_image_runs_as_the_one_user_who_owns_the_data(name: str) -> None:
    """All three services are one numeric user, not root, and a fresh volume at /data is theirs."""
    final = _stages(name)[1]

    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert "install -d -o 10001 -g 10001 -m 0750 /data" in final


@pytest.mark.parametrize("name", OURS)
def test_an_image_starts_its_service_without_a_shell(name: str) -> None:
    """Signals reach the service itself, and its health is asked without a tool that is not there."""
    final = _stages(name)[1]
    health = re.findall(r"^HEALTHCHECK .* CMD (.*)$", final, re.MULTILINE)
    expected = [] if name == "migrate" else [["python", "-m", f"taskqueue_{name}.healthcheck"]]

    assert json.loads(re.findall(r"^CMD (.*)$", final, re.MULTILINE)[0]) == ["python", "-m", f"taskqueue_{name}"]
    assert expected == [json.loads(command) for command in health]


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose


def _service(name: str) -> Service:
    service: Service = _compose()["services"][name]
    return service


def _stages(name: str) -> tuple[str, str]:
    dockerfile = (ROOT / "services" / name / "Dockerfile").read_text()
    build, final = re.split(r"^FROM python:3\.13-slim(?: AS build)?$", dockerfile, flags=re.MULTILINE)[1:]
    return build, final


def _default_of(interpolated: str) -> str:
    found = re.fullmatch(r"\$\{[A-Z_]+:-(.*)\}", interpolated)
    return found[1] if found else interpolated


def _seconds(duration: str) -> float:
    found = re.fullmatch(r"(\d+)(s|m)", duration)
    assert found, duration
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
