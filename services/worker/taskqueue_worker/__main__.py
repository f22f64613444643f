"""The worker as a process: settings in, collaborators built, signals obeyed."""

import asyncio
import sys

from taskqueue.broker.connect import open_broker
from taskqueue.clock import system_clock
from taskqueue.dispatch import Dispatcher
from taskqueue.errors import StartRefused
from taskqueue.events import configure_logging
from taskqueue.lifecycle import refuse, run
from taskqueue.settings import load
from taskqueue.store.tasks import open_store
from taskqueue.sweep import Sweep
from taskqueue_worker.assembly import assemble_worker, worker_name
from taskqueue_worker.health import note_health
from taskqueue_worker.settings import WorkerSettings


def main() -> None:
    """Works until SIGTERM. Exit codes: 0 stopped, 1 crashed, or that of the StartRefused in `taskqueue.errors`."""
    configure_logging("INFO", "json")
    try:
        settings = load(WorkerSettings)
    except StartRefused as error:
        sys.exit(refuse(error))
    configure_logging(settings.log_level, settings.log_format)
    sys.exit(run(lambda stop: _main(settings, stop)))


async def _main(settings: WorkerSettings, stop: asyncio.Event) -> None:
    async with (
        open_store(settings.database_path, system_clock) as store,
        open_broker(settings.full_broker_url(), worker_name()) as broker,
        asyncio.TaskGroup() as group,
    ):
        dispatcher = Dispatcher(broker, store, system_clock)
        sweep = Sweep(store, broker, dispatcher, system_clock, settings.max_attempts)
        worker = assemble_worker(broker, store, sweep.deliveries, system_clock, settings)
        background = [group.create_task(dispatcher.run()), group.create_task(sweep.run())]
        if settings.health_file is not None:
            background.append(group.create_task(note_health(settings.health_file, lambda: worker.consuming)))
        await worker.run(stop)
        for task in background:
            task.cancel()


if __name__ == "__main__":
    main()
