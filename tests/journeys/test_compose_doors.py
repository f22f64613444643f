"""What the running containers may do, and who knows which secret: the engine and the containers themselves say so."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.journeys.client import client_of
from tests.journeys.systems import IMAGES, ComposeSystem, run, wait_until_ready
from tests.support.eventually import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

USERS = {"api": "10001:10001", "worker": "10001:10001", "migrate": "10001:10001"} | {
    "broker-users": "10001:999",
    "rabbitmq": "rabbitmq",
}
RUNNING = {"api": 10001, "worker": 10001, "rabbitmq": 999}
SECRETS = {
    "api": ("api", "/run/broker/password"),
    "worker": ("worker", "/run/broker/password"),
    "admin": ("rabbitmq", "/run/users/admin-password"),
    "the Erlang cookie": ("rabbitmq", "/var/lib/rabbitmq/.erlang.cookie"),
}
MAIN_PROCESS = 's=/proc/1/status; while read -r name value; do echo "$name $value"; done < $s'
ALL_PROCESSES = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
EVERY_FILE_OF_OTHERS = "grep -rsF -f - /run /tmp /data /etc /home /users"


@pytest.mark.parametrize("service", USERS)
def test_the_engine_holds_a_container_to_little(compose_system: ComposeSystem, service: str) -> None:
    """Not root; nothing to write but volumes and scratch space; no capability, and none to gain; limits."""
    [container] = compose_system.containers(service)
    host = container["HostConfig"]

    assert container["Config"]["User"] == USERS[service]
    assert host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["Init"] is True
    assert "host" not in (host["NetworkMode"], host["PidMode"], host["IpcMode"], host["UsernsMode"])
    assert not host["Devices"]


@pytest.mark.parametrize("service", USERS)
def test_no_container_can_write_to_this_machine(compose_system: ComposeSystem, service: str) -> None:
    """No socket of the engine, and of this machine's folders none that can be written."""
    [container] = compose_system.containers(service)

    for mount in container["Mounts"]:
        assert mount["Type"] in ("volume", "tmpfs") or not mount["RW"]
        assert "docker.sock" not in mount["Source"] + mount["Destination"]


@pytest.mark.parametrize(("service", "uid"), RUNNING.items())
def test_a_running_process_has_no_power(compose_system: ComposeSystem, service: str, uid: int) -> None:
    """The kernel itself says so of a container's first process: its user, no capability, no way to gain one."""
    status = dict(line.split(maxsplit=1) for line in _inside(compose_system, service, MAIN_PROCESS).splitlines())

    assert status["Uid:"].split() == [str(uid)] * 4
    for name in ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs:"] == "1"


@pytest.mark.parametrize("service", RUNNING)
@pytest.mark.parametrize("place", ["/", "/etc", "/usr/local/bin"])
def test_a_running_container_cannot_be_changed(compose_system: ComposeSystem, service: str, place: str) -> None:
    """Whoever breaks in leaves nothing behind that a restart would run."""
    said = _inside(compose_system, service, f"touch {place}/mine 2>&1 || true")

    assert "Read-only file system" in said or "Permission denied" in said


def test_only_the_api_can_be_reached_and_only_from_this_machine(compose_system: ComposeSystem) -> None:
    """RabbitMQ, its management and its distribution are published to nobody; their network leads nowhere."""
    published = {
        service: [binding["HostIp"] for bindings in ports.values() for binding in bindings or []]
        for service in USERS
        for ports in [compose_system.containers(service)[0]["NetworkSettings"]["Ports"] or {}]
    }
    [network] = compose_system.containers("worker")[0]["NetworkSettings"]["Networks"]

    assert published == {service: [] for service in USERS} | {"api": ["127.0.0.1"]}
    assert json.loads(run("docker", "network", "inspect", network))[0]["Internal"] is True


def test_rabbitmq_knows_nobody_else(compose_system: ComposeSystem) -> None:
    """No `guest`, and no user that has more rights than its work needs."""
    list_users = ("rabbitmqctl", "--quiet", "--formatter", "json", "list_users")
    users = json.loads(compose_system.compose("exec", "-T", "rabbitmq", *list_users))

    assert {user["user"]: user["tags"] for user in users} == {"api": [], "worker": [], "admin": ["administrator"]}


def test_a_secret_is_nowhere_but_in_its_file(compose_system: ComposeSystem, secrets: dict[str, str]) -> None:
    """No password is in an image, in what the engine tells, in a log, or in any process's environment or arguments."""
    places = {f"{kind} of {service}": text for service in USERS for kind, text in _told_of(compose_system, service)} | {
        f"processes of {service}": _inside(compose_system, service, ALL_PROCESSES) for service in RUNNING
    }

    assert len(set(secrets.values())) == len(SECRETS)
    assert all(len(secret) >= 20 for secret in secrets.values())
    assert "taskqueue_api" in places["processes of api"]
    assert "beam" in places["processes of rabbitmq"]
    assert [(name, place) for name, secret in secrets.items() for place in places if secret in places[place]] == []


@pytest.mark.parametrize("service", ["api", "worker", "migrate"])
def test_a_service_cannot_read_the_secret_of_another(
    compose_system: ComposeSystem, secrets: dict[str, str], service: str
) -> None:
    """Its container does not hold the file."""
    others = "\n".join(secret for name, secret in secrets.items() if name != service)
    how = ("run", "--rm", "--no-deps", "-T") if service == "migrate" else ("exec", "-T")

    found = compose_system.compose(*how, service, "sh", "-c", f"{EVERY_FILE_OF_OTHERS} || true", given=others)

    assert found == ""


async def test_passwords_are_renewed_while_everything_runs(
    compose_system: ComposeSystem, secrets: dict[str, str]
) -> None:
    """As the README says, and nothing is started again: tasks are performed by way of the broker as before."""
    begun = [compose_system.containers(service)[0]["State"]["StartedAt"] for service in RUNNING]

    def renew() -> None:
        compose_system.compose("run", "--rm", "-T", "broker-users", "--renew")
        for order in (["import_definitions", "/run/users/definitions.json"], ["close_all_connections", "renewed"]):
            compose_system.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", *order)

    await asyncio.to_thread(renew)

    assert not set(_secrets(compose_system).values()) & {secrets[name] for name in ("api", "worker", "admin")}
    async with client_of(compose_system.url) as client:

        async def is_well() -> bool:
            return bool((await client.get("/readyz"))["status"] == "pass")

        await eventually(is_well, within=60, what="the API's broker")
        task = await client.finished(await client.post("sum", {"numbers": [1, 2]}), within=60)
    assert task["result"] == {"output": 3}
    assert begun == [compose_system.containers(service)[0]["State"]["StartedAt"] for service in RUNNING]
    await asyncio.to_thread(wait_until_ready, compose_system.url)


@pytest.fixture(name="secrets")
def _secrets_of(compose_system: ComposeSystem) -> dict[str, str]:
    return _secrets(compose_system)


def _secrets(system: ComposeSystem) -> dict[str, str]:
    return {name: _inside(system, service, f"cat {file}") for name, (service, file) in SECRETS.items()}


def _told_of(system: ComposeSystem, service: str) -> Iterator[tuple[str, str]]:
    """What the engine tells of a service's container and image, and what the container logged."""
    [container] = system.containers(service)
    yield "description", json.dumps(container)
    yield "log", system.compose("logs", "--no-color", service)
    yield "image", run("docker", "image", "inspect", container["Image"])
    if service in IMAGES:
        yield "layers", run("docker", "history", "--no-trunc", container["Image"])


def _inside(system: ComposeSystem, service: str, script: str) -> str:
    return system.compose("exec", "-T", service, "sh", "-c", script)
