"""One run of a contender on a stage of its own: its folder, its virtual host, its processes; what scenarios use."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.broker import RabbitMQ
from benchmarks.completion import LAYOUTS, Completion
from benchmarks.contenders.contender import Command, Contender, Place
from benchmarks.load.order import answers, load
from benchmarks.processes import Running, free_ports, run_to_end, started

READY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01


class Stage:
    """A contender and all that it needs for one run. `posted` counts the tasks that it has accepted."""

    def __init__(self, contender: Contender, place: Place, stack: ExitStack) -> None:
        self.contender = contender
        self.place = place
        self.posted = 0
        self.processes: list[Running] = []
        self._stack = stack

    def start_api(self, port: int | None = None) -> float:
        """Starts an API; answers how many seconds passed until it answered."""
        port = port or self.place.port
        api = self._start(self.contender.api(Place(self.place.folder, self.place.broker_url, port)))
        while not answers(port):
            api.check()
            if time.monotonic() - api.began > READY_SECONDS:
                raise TimeoutError(f"{self.contender.name} did not answer within {READY_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - api.began

    def start_worker(self) -> Running | None:
        """Starts a worker, and does not wait for it; None where the API's process works too."""
        return self._start(self.contender.worker(self.place)) if self.contender.worker else None

    def stop(self) -> None:
        """Ends all of its processes."""
        self._stack.close()
        self.processes.clear()

    def post(self, **order: Any) -> dict[str, float]:
        """Loads the API, and counts what it has accepted."""
        seen = load(**({"mode": "post", "ports": [self.place.port]} | order))
        self.posted += int(seen["accepted"] + seen["warm_up"])
        return seen

    def completion(self) -> Completion:
        """A look at what is finished."""
        return Completion(self.place.database, LAYOUTS[self.contender.layout])

    def watch(self, within: float) -> list[tuple[float, int]]:
        """Looks at how many tasks are finished until all are; see `Completion.watch`."""
        return self.completion().watch(self.posted, within, self.check)

    def check(self) -> None:
        """Raises RuntimeError where one of its processes has ended."""
        for process in self.processes:
            process.check()

    def log(self) -> str:
        """All that its processes have written."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.place.folder.glob("*.log")))

    def _start(self, command: Command) -> Running:
        log_file = self.place.folder / f"{time.monotonic_ns()}.log"
        self.processes.append(self._stack.enter_context(started(command, log_file)))
        return self.processes[-1]


@contextmanager
def stage(contender: Contender, broker: RabbitMQ, work: Path) -> Iterator[Stage]:
    """A clean stage; whatever was started on it has ended when the block has."""
    with (
        TemporaryDirectory(prefix=f"{contender.name}-", dir=work) as folder,
        broker.virtual_host(Path(folder).name) as url,
        ExitStack() as stack,
    ):
        place = Place(Path(folder), url, free_ports(1)[0])
        command = contender.prepare(place)
        if command is not None:
            run_to_end(command, place.folder / "prepare.log")
        yield Stage(contender, place, stack)
