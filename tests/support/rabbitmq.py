"""A real RabbitMQ in a container of its own, and what a test may want to do to it."""

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

USER = "taskqueue"
PASSWORD = "only-for-tests"
START_SECONDS = 120

# How long a consumer may hold a message, and how often a channel looks; in ms.
_PATIENCE = "{ok, T} = application:get_env(rabbit, consumer_timeout), \
{ok, E} = application:get_env(rabbit, channel_tick_interval), {T, E}."
_SET_PATIENCE = "{T, E} = %s, application:set_env(rabbit, consumer_timeout, T), \
application:set_env(rabbit, channel_tick_interval, E)."


class RabbitMQ:
    """A running broker."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container

    @property
    def url(self) -> str:
        """Where it listens. Asked anew each time, since a restart may change the port."""
        host, port = self._container.get_container_host_ip(), self._container.get_exposed_port(5672)
        return f"amqp://{USER}:{PASSWORD}@{host}:{port}/"

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers."""
        return self._exec("rabbitmqctl", "--quiet", *arguments)

    def table(self, *arguments: str) -> list[dict[str, Any]]:
        """What a listing of `rabbitmqctl` answers, a row each."""
        rows: list[dict[str, Any]] = json.loads(self.ctl("--formatter", "json", *arguments))
        return rows

    def url_of(self, user: str, password: str) -> str:
        """Where it listens, for another user."""
        return self.url.replace(f"{USER}:{PASSWORD}", f"{user}:{password}")

    def import_definitions(self, definitions: str) -> None:
        """Takes users and rights over, as at a start."""
        self._manage("POST", "definitions", definitions)

    def management_status(self, user: str, password: str, path: str = "overview") -> int:
        """The status that the management API answers to a user."""
        return self._ask("GET", path, f"{user}:{password}")[0]

    def close_connections(self) -> None:
        """Cuts off every client, as an operator may."""
        self.ctl("close_all_connections", "cut off by a test")

    def stop_app(self) -> None:
        """Stops the broker within its container, which keeps its port."""
        self.ctl("stop_app")

    def start_app(self) -> None:
        """Starts the broker again."""
        self.ctl("start_app")
        self.ctl("await_startup")

    def forget_queues(self) -> None:
        """Deletes every queue; over HTTP, since a `rabbitmqctl` takes a second each time."""
        for queue in json.loads(self._manage("GET", "queues?columns=name")):
            self._manage("DELETE", f"queues/%2F/{quote(queue['name'], safe='')}")

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """For as long as the block runs, the broker believes to be out of memory, and hears no publisher."""
        (before,) = [line.split(":")[1] for line in self.ctl("status").splitlines() if "high watermark setting" in line]
        self.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            yield
        finally:
            self.ctl("set_vm_memory_high_watermark", before.split()[0])

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """For as long as the block runs, a channel opened in it may hold a message for a second, and no longer."""
        before = self.ctl("eval", _PATIENCE).strip()
        self.ctl("eval", _SET_PATIENCE % "{1000, 500}")
        try:
            yield
        finally:
            self.ctl("eval", _SET_PATIENCE % before)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For as long as the block runs, the broker does nothing at all, and its connections stay open."""
        self._docker("pause")
        try:
            yield
        finally:
            self._docker("unpause")

    def _exec(self, *command: str) -> str:
        return self._docker("exec", command)

    def _docker(self, verb: str, command: Sequence[str] = ()) -> str:
        identity = self._container.get_wrapped_container().id
        assert identity is not None
        ended = subprocess.run(
            ["docker", verb, identity, *command], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, f"{verb} {command}: {ended.stderr or ended.stdout}"
        return ended.stdout

    def _manage(self, method: str, path: str, body: str | None = None) -> bytes:
        status, answer = self._ask(method, path, f"{USER}:{PASSWORD}", body)
        assert status < 300, f"{method} {path}: {status} {answer!r}"
        return answer

    def _ask(self, method: str, path: str, credentials: str, body: str | None = None) -> tuple[int, bytes]:
        host, port = self._container.get_container_host_ip(), self._container.get_exposed_port(15672)
        connection = HTTPConnection(host, int(port), timeout=30)
        try:
            encoded = base64.b64encode(credentials.encode()).decode()
            headers = {"Authorization": f"Basic {encoded}", "Content-Type": "application/json"}
            connection.request(method, f"/api/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running_rabbitmq() -> Iterator[RabbitMQ]:
    """A broker of its own, for as long as the block runs."""
    container = (
        DockerContainer("rabbitmq:4-management")
        .with_kwargs(hostname="rabbitmq-under-test")
        .with_env("RABBITMQ_DEFAULT_USER", USER)
        .with_env("RABBITMQ_DEFAULT_PASS", PASSWORD)
        .with_exposed_ports(5672, 15672)
        .waiting_for(LogMessageWaitStrategy("Server startup complete").with_startup_timeout(START_SECONDS))
    )
    with container:
        yield RabbitMQ(container)
