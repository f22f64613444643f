"""The compose stack as shipped, two APIs and two workers, with the overlay `faults/compose.yml` to harm it by."""

import json
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from faults.checker import Row, Stored
from faults.commands import ROOT, CommandFailed, answers, free_ports, run, wait_for
from faults.rabbitmq import RabbitMQ
from faults.scene import runs_noted
from faults.schedule import Fault

DATABASE: Final = "/data/tasks.db"
BESIDE: Final = ROOT / "faults" / "beside"
IMAGES: Final = ("api", "worker", "migrate", "broker-users")
REPLICAS: Final = 2
READY_SECONDS: Final = 60.0
UP_SECONDS: Final = 600.0


class ComposeStack:
    """Containers under a project name of their own."""

    name = "compose"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        self.project = f"taskqueue-faults-{uuid.uuid4().hex[:8]}"
        self._folder = Path(tempfile.mkdtemp(prefix="taskqueue-faults-"))
        self._folder.chmod(0o777)  # the containers' user writes the log of runs into it
        first, last, amqp, management, self._proxy = free_ports(5)
        self.rabbitmq = RabbitMQ(amqp, management)
        self._environment = os.environ | {
            "API_PORTS": f"{first}-{last}",
            "STACK_IMAGES": self.project,
            "FAULTS_RUNS": str(self._folder),
            "FAULTS_AMQP_PORT": str(amqp),
            "FAULTS_MANAGEMENT_PORT": str(management),
            "FAULTS_PROXY_PORT": str(self._proxy),
        }
        self._urls: Sequence[str] = ()

    def up(self) -> None:
        """See System."""
        scale = ("--scale", f"api={REPLICAS}", "--scale", f"worker={REPLICAS}")
        self.compose("up", "--build", "--detach", "--wait", *scale, seconds=UP_SECONDS)
        self.rabbitmq.password = self.inside("rabbitmq", 1, "cat", "/run/users/admin-password").strip()
        self.find_apis()

    def down(self) -> None:
        """See System."""
        try:
            self.compose("down", "--volumes", "--timeout", "5")
            run("docker", "image", "rm", "--force", *(f"{self.project}-{each}" for each in IMAGES))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def urls(self) -> Sequence[str]:
        """See System."""
        return self._urls

    def stored(self) -> Stored:
        """See System."""
        return read_stored(self.python("worker", 1, BESIDE / "read_store.py", DATABASE))

    def runs(self) -> Sequence[tuple[str, int]]:
        """See System."""
        return runs_noted(self._folder / "log")

    def buried(self) -> Sequence[bytes]:
        """See System."""
        return self.rabbitmq.take_dead()

    def logs(self) -> str:
        """What every container has said, for whoever must find out why."""
        return self.compose("logs", "--no-color", "--timestamps")

    def container(self, service: str, number: int = 1) -> str:
        """The name of a container."""
        return f"{self.project}-{service}-{number}"

    def engine(self, verb: str, *containers: str) -> None:
        """Has the engine kill, pause, unpause, … containers."""
        run("docker", *verb.split(), *containers)

    def inspect(self, container: str, what: str) -> str:
        """What the engine says of a container, by a template of its own."""
        return run("docker", "inspect", "--format", what, container).strip()

    def start(self, *containers: str) -> None:
        """Starts containers again, and returns when APIs among them answer, and the broker takes connections."""
        self.engine("start", *containers)
        self.find_apis()
        wait_for(self.rabbitmq.takes_connections, READY_SECONDS, "the start of RabbitMQ")

    def find_apis(self) -> None:
        """Finds out where APIs listen, which a restart may have changed, and waits until they are ready."""
        ports = [run("docker", "port", self.container("api", number), "8080") for number in (1, 2)]
        self._urls = [f"http://{port.split()[0]}" for port in ports]
        for url in self._urls:
            wait_for(partial(answers, f"{url}/livez"), READY_SECONDS, f"the start of {url}")

    def toxic(self, link: str, toxic: str) -> None:
        """Does to the connections between a service and RabbitMQ what a bad network does; `none` ends it."""
        with socket.create_connection(("127.0.0.1", self._proxy), timeout=10) as connection:
            connection.sendall(f"{link} {toxic}\n".encode())
            if connection.recv(16) != b"done\n":
                raise CommandFailed(f"the proxy does not know {link} {toxic}")

    def inside(self, service: str, number: int, *command: str) -> str:
        """What a command prints that runs in a container."""
        return run("docker", "exec", self.container(service, number), *command)

    def python(self, service: str, number: int, script: Path, *arguments: str) -> str:
        """What a script of this machine prints that runs in a container."""
        command = ("docker", "exec", "--interactive", self.container(service, number), "python", "-", *arguments)
        return run(*command, given=script.read_text())

    def compose(self, *arguments: str, seconds: float = 120) -> str:
        """What `docker compose` answers for this project."""
        files = ("--file", "docker-compose.yml", "--file", "faults/compose.yml")
        command = ("docker", "compose", "--project-name", self.project, *files, *arguments)
        return run(*command, environment=self._environment, seconds=seconds)


def read_stored(text: str) -> Stored:
    """What `beside/read_store.py` has printed."""
    told = json.loads(text)
    rows = [Row(task_id, status, attempt, json.loads(tags or "[]")) for task_id, status, attempt, tags in told["rows"]]
    damage = "; ".join(line for (line,) in told["integrity"])
    return Stored(rows, dict(told["finals"]), damage, [task_id for (task_id,) in told["wrongly_final"]])
