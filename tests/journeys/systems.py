"""The two ways to run the real thing, behind one face: what a journey may do to a running system."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.docker import require_docker
from tests.support.ports import free_port, free_ports

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "wordcount"
LASTING = Path(__file__).parent / "own_actions" / "lasting.py"
READY_SECONDS = 60
STOP_SECONDS = 40
COMPOSE_SECONDS = 600
IMAGES = ("api", "worker", "migrate", "broker-users")


class System(Protocol):
    """A running task queue."""

    url: str
    parts: Sequence[str]
    """What can be killed on its own."""

    def kill(self, part: str) -> None:
        """Ends a part at once, as a power cut would."""

    def revive(self, part: str) -> None:
        """Starts a part again, and returns when it is ready."""

    def restart(self) -> None:
        """Stops everything in an orderly way, and starts it again."""

    def own_actions(self, folder: Path) -> AbstractContextManager[None]:
        """For as long as the block runs, its worker has the actions of the example and of `own_actions/lasting.py`.

        `folder` is empty, and the system's own.
        """


class EmbeddedSystem:
    """Everything in one process."""

    parts: Sequence[str] = ("everything",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: dict[str, str] = {}
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process = self._start()

    def kill(self, part: str) -> None:
        """See System."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def revive(self, part: str) -> None:
        """See System."""
        self._process = self._start()

    def restart(self) -> None:
        """See System."""
        assert self.stop() == 0
        self._process = self._start()

    @contextmanager
    def own_actions(self, folder: Path) -> Iterator[None]:
        """See System."""
        found = os.pathsep.join((str(EXAMPLE), str(LASTING.parent), os.environ.get("PYTHONPATH", "")))
        self._own = {"PYTHONPATH": found, "TASKQUEUE_ACTIONS": "wordcount.actions,lasting"}
        self.restart()
        try:
            yield
        finally:
            self._own = {}
            self.restart()

    def stop(self) -> int:
        """Asks for an orderly end, and answers the exit code."""
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        settings = {
            "TASKQUEUE_PORT": str(self._port),
            "TASKQUEUE_DATABASE_URL": f"sqlite:///{self._folder}/data/tasks.db",
        }
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskqueue_embedded"],
                env=os.environ | settings | self._own,
                stdout=log,
                stderr=log,
            )
        wait_until_ready(self.url)
        return process


class ComposeSystem:
    """Containers from docker-compose.yml, as shipped, under a project name of their own."""

    parts: Sequence[str] = ("worker", "api", "rabbitmq")

    def __init__(self, project: str, **settings: str) -> None:
        self._project = project
        self._ports = free_ports(2)
        # Images of their own name, so that a stack of this machine's user does not wake up with a test's.
        own = {"API_PORTS": str(self._ports[0]), "STACK_IMAGES": project}
        self._environment = os.environ | own | settings
        self._files: tuple[str | Path, ...] = ()
        self.url = ""

    def up(self, *options: str) -> None:
        """Brings everything up, and returns when it is ready."""
        self.compose("up", "--detach", "--wait", "--no-recreate", *options)
        self.url = self.url_of_api(1)

    def kill(self, part: str) -> None:
        """See System."""
        self.compose("kill", "--signal", "KILL", part)

    def revive(self, part: str) -> None:
        """See System."""
        self.up()

    def restart(self) -> None:
        """See System."""
        self.compose("down", "--timeout", "30")
        self.up()

    @contextmanager
    def own_actions(self, folder: Path) -> Iterator[None]:
        """See System. The worker's image is the example's, by its own Dockerfile, on the base of this stack's name."""
        image, source = f"{self._project}-worker-wordcount", folder / "wordcount"
        shutil.copytree(EXAMPLE, source)
        dockerfile = (EXAMPLE / "Dockerfile").read_text()
        assert "FROM taskqueue-worker\n" in dockerfile
        (source / "Dockerfile").write_text(dockerfile.replace("FROM taskqueue-", f"FROM {self._project}-"))
        worker = {
            "build": {"context": str(source)},
            "image": image,
            "environment": {"TASKQUEUE_ACTIONS": "lasting"},
            "volumes": [f"{LASTING}:/actions/lasting.py:ro"],
        }
        (folder / "compose.yml").write_text(json.dumps({"services": {"worker": worker}}))
        self._replace_worker("docker-compose.yml", EXAMPLE / "compose.yml", folder / "compose.yml")
        try:
            yield
        finally:
            self._replace_worker()
            run("docker", "image", "rm", "--force", image)

    def _replace_worker(self, *files: str | Path) -> None:
        self._files = files
        self.compose("up", "--detach", "--wait", "--no-deps", *(("--build",) if files else ()), "worker")

    def scale(self, *, workers: int, apis: int) -> list[str]:
        """Runs so many of each, and answers where the APIs listen."""
        self._environment["API_PORTS"] = f"{self._ports[0]}-{self._ports[apis - 1]}"
        self.up("--scale", f"worker={workers}", "--scale", f"api={apis}")
        return [self.url_of_api(number) for number in range(1, apis + 1)]

    def url_of_api(self, number: int) -> str:
        """Where the API container of this number, from 1, listens."""
        return f"http://{self.compose('port', '--index', str(number), 'api', '8080').strip()}"

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of each container of `service`, those that have ended included."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        inspected: list[dict[str, Any]] = json.loads(run("docker", "inspect", *ids))
        return inspected

    def compose(self, *arguments: str, given: str | None = None) -> str:
        """What `docker compose` answers for this project; `given` is what it reads."""
        files = (option for file in self._files for option in ("--file", str(file)))
        command = ("docker", "compose", "--project-name", self._project, *files)
        return run(*command, *arguments, environment=self._environment, given=given)


@contextmanager
def running_embedded(folder: Path) -> Iterator[EmbeddedSystem]:
    """Embedded mode with its data in `folder`, for as long as the block runs."""
    system = EmbeddedSystem(folder)
    try:
        yield system
    finally:
        system.stop()


@contextmanager
def running_compose(project: str, **settings: str) -> Iterator[ComposeSystem]:
    """The compose stack, built from this tree, for as long as the block runs; its logs are printed where that fails."""
    require_docker()
    system = ComposeSystem(project, **settings)
    try:
        system.up("--build")
        yield system
    except BaseException:
        print(system.compose("logs", "--no-color", "--tail", "200"))  # noqa: T201 - for pytest to show
        raise
    finally:
        system.compose("down", "--volumes", "--timeout", "10")
        run("docker", "image", "rm", "--force", *(f"{project}-{service}" for service in IMAGES))


def wait_until_ready(url: str) -> None:
    """Returns when the API at `url` says that it is ready; raises AssertionError after a minute."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - a URL of our own
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"{url} was not ready within {READY_SECONDS} s")


def run(*command: str, environment: Mapping[str, str] | None = None, given: str | None = None) -> str:
    """What a command prints; AssertionError with its errors where it fails."""
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=COMPOSE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr[-4000:]}"
    return ended.stdout
