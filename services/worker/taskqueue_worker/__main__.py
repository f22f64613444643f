"""The worker as a process: settings in, collaborators built, signals obeyed."""

import asyncio
import sys

from taskqueue.broker.connect import open_broker
from taskqueue.clock import system_clock
from taskqueue.lifecycle import run_service
from taskqueue.store.tasks import open_store
from taskqueue.sweep import dispatching
from taskqueue_worker.assembly import assemble_worker, worker_name
from taskqueue_worker.health import noting_health
from taskqueue_worker.pulse import watching_pulse
from taskqueue_worker.settings import WorkerSettings


def main() -> None:
    """Works until SIGTERM. Exit codes: 0 stopped, 1 crashed, or that of the StartRefused in `taskqueue.errors`."""
    sys.exit(run_service(WorkerSettings, _main))


async def _main(settings: WorkerSettings, stop: asyncio.Event) -> None:
    async with (
        open_store(settings.database_path, system_clock) as store,
        open_broker(settings.full_broker_url, worker_name()) as broker,
        dispatching(store, broker, system_clock, settings.max_attempts, settings.retention_days) as (_, sweep),
    ):
        worker = assemble_worker(broker, store, sweep.deliveries, system_clock, settings)
        with watching_pulse():
            async with noting_health(settings.health_file, lambda: worker.consuming):
                await worker.run(stop)


if __name__ == "__main__":
    main()
