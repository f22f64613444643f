"""For tests of your own actions: a task is run through an action as a worker does it, without HTTP or broker.

async def test_resize() -> None:
    assert await run_action(resize, {"url": "…"}) == {"width": 800}
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from taskqueue import jsontext
from taskqueue.actions.context import Context, Link, Progress
from taskqueue.actions.contract import Action
from taskqueue.actions.results import encoded

DEFAULT_TIMEOUT: Final = 300.0


async def run_action(
    action: Action,
    data: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    progress: list[Progress] | None = None,
    cancelled: bool = False,
) -> Any:
    """The result as a client reads it. Raises what the handler raised; InvalidData where the data does not fit.

    `progress` is filled with everything that the handler reports. With `cancelled`, the context says so from the start.
    A handler that asks for a process runs in a thread here, with the context that it would have in a process.
    """
    link = _Recorder([] if progress is None else progress)
    link.interrupted = cancelled
    deadline = time.time() + (action.timeout or DEFAULT_TIMEOUT)
    context = Context("test", attempt, deadline, action.name, None if action.process else link)
    arguments = action.arguments(jsontext.decode(jsontext.encode(dict(data or {}))), context)
    result = await (asyncio.to_thread(action, *arguments) if action.blocking else action(*arguments))
    return jsontext.decode(encoded(result).encode())


class _Recorder(Link):
    def __init__(self, reports: list[Progress]) -> None:
        super().__init__()
        self._reports = reports

    def report(self, progress: Progress) -> None:
        super().report(progress)
        self._reports.append(progress)
