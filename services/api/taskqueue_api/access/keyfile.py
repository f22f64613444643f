"""The file of keys: what it says holds within a second, and what makes no sense changes nothing."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from taskqueue import events
from taskqueue.errors import InvalidSettings
from taskqueue_api.access.keys import Keys, UnreadableKeys, parse

REFRESH_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 0.05
"""A change holds once it has stood for so long."""

MAX_BYTES: Final = 1024 * 1024
SETTING: Final = "TASKQUEUE_API_KEYS_FILE"


class KeyFile:
    """The keys of a file, as it last made sense. Raises InvalidSettings where it makes none to begin with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._content = _content(path)
            self.keys: Keys = parse(self._content)
        except (OSError, UnreadableKeys) as error:
            raise InvalidSettings(f"{SETTING}: {_sentence(path, error)}") from None
        if not self.keys:
            raise InvalidSettings(f"{SETTING}: {path} holds no key, and without one nobody could ask for anything")
        self._reported: str | None = None

    def refresh(self) -> None:
        """Reads the file again, and may wait. Whole files are compared: they are small, and times of change coarse."""
        try:
            content = _content(self._path)
            if content != self._content:
                time.sleep(SETTLE_SECONDS)  # an editor that empties the file before it fills it must lock nobody out
                if _content(self._path) != content:
                    return
                self.keys = parse(content)
                self._content = content
                events.emit(events.KEYS_READ, keys=len(self.keys))
            self._reported = None
        except (OSError, UnreadableKeys) as error:
            self._report(_sentence(self._path, error))

    @asynccontextmanager
    async def kept_fresh(self, after: Callable[[], None]) -> AsyncIterator[None]:
        """Read again twice a second for as long as the block runs; `after` is called each time."""
        refreshing = asyncio.create_task(self._keep_fresh(after), name="refresh the keys")
        try:
            yield
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing

    async def _keep_fresh(self, after: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await asyncio.to_thread(self.refresh)
                after()
            except Exception as error:  # noqa: BLE001 - such as no thread left: revoked keys would be valid for ever
                self._report(f"{self._path} could not be read: {type(error).__name__}")

    def _report(self, reason: str) -> None:
        """Once for each fault, and not twice a second."""
        if reason != self._reported:
            events.emit(events.KEYS_UNUSABLE, reason=reason)
            self._reported = reason


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableKeys("it is not a file")
        if found.st_mode & stat.S_IRWXO:
            raise UnreadableKeys("others may read or write it: take that away (chmod o-rwx)")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UnreadableKeys("it is over 1 MiB")
    return content


def _sentence(path: Path, error: OSError | UnreadableKeys) -> str:
    return f"{path} cannot be used: {error.strerror if isinstance(error, OSError) else error}"
