"""RabbitMQ in a container of its own; each run of a contender has a virtual host, so that nothing is left over."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import quote

IMAGE: Final = "rabbitmq:4-management"
USER: Final = "bench"
PASSWORD: Final = "only-for-benchmarks"  # noqa: S105 - a throw-away container's
START_SECONDS: Final = 120.0
ASK_SECONDS: Final = 30.0


class RabbitMQ:
    """A running broker, on the loopback interface."""

    def __init__(self, container: str) -> None:
        self._amqp_port = _port_of(container, 5672)
        self._http_port = _port_of(container, 15672)
        self.pid = int(_docker("inspect", "--format", "{{.State.Pid}}", container))

    @contextmanager
    def virtual_host(self, name: str) -> Iterator[str]:
        """The URL of a virtual host that is there for as long as the block runs."""
        self._ask("PUT", f"vhosts/{name}", {})
        self._ask("PUT", f"permissions/{name}/{USER}", {"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self._amqp_port}/{quote(name)}"
        finally:
            self._ask("DELETE", f"vhosts/{name}")

    def version(self) -> str:
        """RabbitMQ's own version."""
        return str(self._ask("GET", "overview")["rabbitmq_version"])

    def wait_until_ready(self) -> None:
        """Returns when it answers. Raises TimeoutError."""
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            try:
                self.version()
            except (OSError, HTTPException, RuntimeError):
                time.sleep(0.3)
            else:
                return
        raise TimeoutError(f"RabbitMQ was not ready within {START_SECONDS:g} s")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._http_port, timeout=ASK_SECONDS)
        try:
            credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
            connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content!r}")
        return json.loads(content) if content else None


@contextmanager
def running_rabbitmq() -> Iterator[RabbitMQ]:
    """A broker for as long as the block runs. Raises RuntimeError where Docker does not do as it is told."""
    options = [
        "--hostname=rabbitmq-bench",
        f"--env=RABBITMQ_DEFAULT_USER={USER}",
        f"--env=RABBITMQ_DEFAULT_PASS={PASSWORD}",
    ]
    ports = ["--publish=127.0.0.1::5672", "--publish=127.0.0.1::15672"]
    container = _docker("run", "--detach", "--rm", *options, *ports, IMAGE)
    try:
        broker = RabbitMQ(container)
        broker.wait_until_ready()
        yield broker
    finally:
        _docker("rm", "--force", "--volumes", container)


def _port_of(container: str, port: int) -> int:
    return int(_docker("port", container, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


def _docker(*arguments: str) -> str:
    ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {ended.stderr.strip()}")
    return ended.stdout.strip()
