"""The API as a process: settings in, collaborators built, signals obeyed."""

import asyncio
import os
import socket
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
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serve
from taskqueue_api.settings import ApiSettings


def main() -> None:
    """Serves until SIGTERM. Exit codes: 0 stopped, 1 crashed, or that of the StartRefused in `taskqueue.errors`."""
    configure_logging("INFO", "json")
    try:
        settings = load(ApiSettings)
    except StartRefused as error:
        sys.exit(refuse(error))
    configure_logging(settings.log_level, settings.log_format)
    sys.exit(run(lambda stop: _main(settings, stop)))


async def _main(settings: ApiSettings, stop: asyncio.Event) -> None:
    name = f"taskqueue-api {socket.gethostname()} {os.getpid()}"
    async with (
        open_store(settings.database_path, system_clock) as store,
        open_broker(settings.full_broker_url(), name) as broker,
        asyncio.TaskGroup() as group,
    ):
        dispatcher = Dispatcher(broker, store, system_clock)
        sweep = Sweep(store, broker, dispatcher, system_clock, settings.max_attempts)
        background = [group.create_task(dispatcher.run()), group.create_task(sweep.run())]
        await serve(Collaborators(store, broker, dispatcher, system_clock), settings, stop)
        for task in background:
            task.cancel()


if __name__ == "__main__":
    main()
