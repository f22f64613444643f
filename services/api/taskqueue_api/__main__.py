"""The API as a process: settings in, collaborators built, signals obeyed."""

import asyncio
import os
import socket
import sys

from taskqueue.broker.connect import open_broker
from taskqueue.clock import system_clock
from taskqueue.lifecycle import run_service
from taskqueue.store.tasks import open_store
from taskqueue.sweep import dispatching
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serve
from taskqueue_api.settings import ApiSettings


def main() -> None:
    """Serves until SIGTERM. Exit codes: 0 stopped, 1 crashed, or that of the StartRefused in `taskqueue.errors`."""
    sys.exit(run_service(ApiSettings, _main))


async def _main(settings: ApiSettings, stop: asyncio.Event) -> None:
    name = f"taskqueue-api {socket.gethostname()} {os.getpid()}"
    async with (
        open_store(settings.database_path, system_clock) as store,
        open_broker(settings.full_broker_url, name, makes_queues=False) as broker,
        dispatching(store, broker, system_clock, settings.max_attempts, settings.retention_days) as (dispatcher, _),
    ):
        await serve(
            Collaborators(store, broker, dispatcher, system_clock, max_attempts=settings.max_attempts), settings, stop
        )


if __name__ == "__main__":
    main()
