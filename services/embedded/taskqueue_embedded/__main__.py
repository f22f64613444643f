"""Embedded mode as a process: the schema is made, then API and worker run around one memory broker."""

import asyncio
import sys

from taskqueue import events
from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.dispatch import Dispatcher
from taskqueue.errors import StartRefused
from taskqueue.events import configure_logging
from taskqueue.lifecycle import refuse, run
from taskqueue.settings import load
from taskqueue.store.tasks import TaskStore, open_store
from taskqueue.sweep import Sweep
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serve
from taskqueue_embedded.alone import alone_with
from taskqueue_embedded.settings import EmbeddedSettings
from taskqueue_migrate.runner import upgrade
from taskqueue_worker.assembly import assemble_worker


def main() -> None:
    """Serves and works until SIGTERM or Ctrl-C. Exit codes: as those of the API and the worker."""
    configure_logging("INFO", "console")
    try:
        settings = load(EmbeddedSettings)
    except StartRefused as error:
        sys.exit(refuse(error))
    configure_logging(settings.log_level, settings.log_format)
    sys.exit(run(lambda stop: _main(settings, stop)))


async def _main(settings: EmbeddedSettings, stop: asyncio.Event) -> None:
    path = settings.database_path
    with alone_with(path):
        await asyncio.to_thread(upgrade, path, shared_file=False)
        async with open_store(path, system_clock, shared_file=False) as store:
            resumed = await store.resume()
            events.emit(events.RESUMED, tasks=resumed)
            await _serve_and_work(store, settings, stop)


async def _serve_and_work(store: TaskStore, settings: EmbeddedSettings, stop: asyncio.Event) -> None:
    broker = MemoryBroker()
    dispatcher = Dispatcher(broker, store, system_clock)
    sweep = Sweep(store, broker, dispatcher, system_clock, settings.max_attempts)
    worker = assemble_worker(broker, store, sweep.deliveries, system_clock, settings)
    collaborators = Collaborators(store, broker, dispatcher, system_clock)
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(dispatcher.run()), group.create_task(sweep.run())]
        async with asyncio.TaskGroup() as services:
            services.create_task(serve(collaborators, settings, stop))
            services.create_task(worker.run(stop))
        for task in background:
            task.cancel()


if __name__ == "__main__":
    main()
