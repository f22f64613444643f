"""This project, as it is shipped: the compose shape with RabbitMQ, and embedded mode without."""

from benchmarks.contenders.contender import Command, Contender, Facts, Place
from benchmarks.environments import Environments


def compose_shape(environments: Environments) -> Contender:
    """API and worker as two processes, with the settings of docker-compose.yml but for the simulated work."""

    def run(module: str, place: Place) -> Command:
        settings = _settings(place) | {"TASKQUEUE_BROKER_URL": place.broker_url}
        return Command([environments.ours, "-m", module], settings)

    return Contender(
        name="ours",
        title="ours, API + worker",
        kind="ours",
        layout="ours",
        facts=Facts(
            api="aiohttp, uvloop",
            worker="asyncio, 2 channels × prefetch 5",
            before_202="row, fsynced",
            message="persistent, mandatory, confirmed",
            queue="quorum",
            result="row at claim and at end, WAL, FULL",
        ),
        prepare=lambda place: Command([environments.ours, "-m", "taskqueue_migrate"], _settings(place)),
        api=lambda place: run("taskqueue_api", place),
        worker=lambda place: run("taskqueue_worker", place),
    )


def embedded(environments: Environments) -> Contender:
    """One process around a memory broker: `make run`."""
    return Contender(
        name="embedded",
        title="ours, embedded",
        kind="ours",
        layout="ours",
        facts=Facts(
            api="aiohttp, in one process with the worker",
            worker="asyncio, 2 channels × prefetch 5",
            before_202="row, fsynced",
            message="in memory; rows bring it back",
            queue="–",
            result="row at claim and at end, WAL, FULL",
        ),
        prepare=lambda _: None,
        api=lambda place: Command([environments.embedded, "-m", "taskqueue_embedded"], _settings(place)),
        worker=None,
    )


def _settings(place: Place) -> dict[str, str]:
    return {
        "TASKQUEUE_DATABASE_URL": f"sqlite:///{place.database}",
        "TASKQUEUE_PORT": str(place.port),
        "TASKQUEUE_SIMULATED_WORK_SECONDS": "0",
    }
