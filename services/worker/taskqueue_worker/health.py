"""How a worker shows that it is well: it notes so in a file, about once a second, from its own event loop.

A loop that hangs stops writing, and the file grows old: that is the liveness check. `healthcheck` reads it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

NOTE_SECONDS: Final = 1.0


@asynccontextmanager
async def noting_health(file: Path | None, consuming: Callable[[], bool]) -> AsyncIterator[None]:
    """Notes this worker's health in `file`, where there is one, for as long as the block runs."""
    noting = asyncio.create_task(note_health(file, consuming), name="note health") if file else None
    try:
        yield
    finally:
        if noting is not None:
            noting.cancel()


async def note_health(file: Path, consuming: Callable[[], bool]) -> None:
    """Notes {"at": seconds of the monotonic clock, "ready": bool} in `file` until cancelled.

    Each note replaces the last as a whole: a reader never sees half of one. Where it cannot be written the worker works
    on; the file grows old.
    """
    draft = file.with_suffix(".draft")
    while True:
        with suppress(OSError):
            draft.write_text(json.dumps({"at": time.monotonic(), "ready": consuming()}))
            draft.replace(file)
        await asyncio.sleep(NOTE_SECONDS)
