"""A bar that says how far the run is, and what is measured now."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars


class Progress:
    """The bar, while it is shown."""

    def __init__(self, shown: bars.Progress, steps: int) -> None:
        self._shown = shown
        self._task = shown.add_task("starting", total=steps)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step of the run."""
        self._shown.update(self._task, description=title)
        yield
        self._shown.advance(self._task)


@contextmanager
def progress_bar(steps: int) -> Iterator[Progress]:
    """A bar of so many steps, for as long as the block runs."""
    columns = (bars.TextColumn("{task.description:36}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(*columns, bars.TimeElapsedColumn(), bars.TimeRemainingColumn()) as shown:
        yield Progress(shown, steps)
