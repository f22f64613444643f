"""Embedded mode as a process: the schema is made, then API and worker run around one memory broker."""

import asyncio
import sys

from taskqueue import events, failpoints
from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.lifecycle import run_service
from taskqueue.store.sharing import alone_with
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.sweep import dispatching
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serve
from taskqueue_embedded.settings import EmbeddedSettings
from taskqueue_migrate.runner import upgrade
from taskqueue_worker.assembly import assemble_worker
from taskqueue_worker.pulse import watching_pulse


def main() -> None:
    """Serves and works until SIGTERM or Ctrl-C. Exit codes: as those of the API and the worker."""
    sys.exit(run_service(EmbeddedSettings, _main))


async def _main(settings: EmbeddedSettings, stop: asyncio.Event) -> None:
    path = settings.database_path
    with alone_with(path):
        await asyncio.to_thread(upgrade, path, shared_file=False)
        async with open_store(path, system_clock, shared_file=False) as store:
            resumed = await store.resume()
            failpoints.reach("resume.committed")
            events.emit(events.RESUMED, tasks=resumed)
            with watching_pulse():
                await _serve_and_work(store, settings, stop)


async def _serve_and_work(store: TaskStore, settings: EmbeddedSettings, stop: asyncio.Event) -> None:
    broker = MemoryBroker()
    async with dispatching(store, broker, system_clock, settings.max_attempts, settings.retention_days) as (
        dispatcher,
        sweep,
    ):
        worker = assemble_worker(broker, store, sweep.deliveries, system_clock, settings)
        async with asyncio.TaskGroup() as services:
            services.create_task(
                serve(
                    Collaborators(store, broker, dispatcher, system_clock, max_attempts=settings.max_attempts),
                    settings,
                    stop,
                )
            )
            services.create_task(worker.run(stop))


if __name__ == "__main__":
    main()
