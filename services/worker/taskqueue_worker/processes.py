"""Running handlers that compute in processes of their own, which end with the attempt if they must.

Not by `anyio.to_process`: it leaves a process behind whose start is cancelled, and lets handlers write into its pipes.
"""

import os
import pickle
import subprocess
import sys
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from taskqueue.actions import Action, Context
from taskqueue_worker import child
from taskqueue_worker.outcomes import Failed, Returned

_COMMAND = (sys.executable, "-m", child.__name__)
_GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Processes:
    """At most as many as the machine has processors; each is used again, unless its handler was cut off."""

    def __init__(self) -> None:
        self._places = anyio.Semaphore(os.cpu_count() or 1)
        self._idle: list[Process] = []

    async def run(self, action: Action, data: dict[str, Any], context: Context) -> Returned:
        """What came of the handler. Cancelled, it kills the process."""
        attempt = (context.task_id, context.attempt, context.deadline)
        request = child.framed((sys.path, action.handler.__module__, action.name, data, attempt))
        async with self._places:
            process = await self._taken()
            try:
                answer = await _answer(process, request)
            except _GONE:
                await _end(process)
                return Failed("the process of the handler ended before the handler did")
            except BaseException:
                await _end(process)
                raise
            self._idle.append(process)
            return answer

    async def close(self) -> None:
        """Ends the processes that wait for a handler."""
        while self._idle:
            await _end(self._idle.pop())

    async def _taken(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            await _end(process)
        return await anyio.open_process(
            (*_COMMAND, str(os.getpid())), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        )


async def _answer(process: Process, request: bytes) -> Returned:
    if process.stdin is None or process.stdout is None:
        raise anyio.ClosedResourceError
    await process.stdin.send(request)
    answers = BufferedByteReceiveStream(process.stdout)
    size = int.from_bytes(await answers.receive_exactly(child.SIZE_BYTES))
    answer: Returned = pickle.loads(await answers.receive_exactly(size))  # noqa: S301 - our own code wrote it
    return answer


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()
