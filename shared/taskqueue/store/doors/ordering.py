"""Tasks are called off, tried again and deleted by hand."""

from collections.abc import Sequence

from taskqueue.store import orders, sweeps
from taskqueue.store.doors.door import Door
from taskqueue.store.orders import Order


class Ordering(Door):
    """Tasks are called off, tried again and deleted by hand."""

    async def cancel(self, order: Order) -> orders.Cancelled | orders.Refused:
        """Cancels a task that has not begun; asks the worker of one that runs to stop."""
        return await self._write(orders.cancel, order)

    async def cancel_all(self, ordered: Sequence[Order]) -> Sequence[orders.Cancelled | orders.Refused]:
        """Cancels tasks, all in one commit."""
        return await self._writer.run(orders.cancel, ordered)

    async def retry(self, order: Order) -> sweeps.Ready | orders.Refused:
        """Makes a failed or cancelled task pending again; answers what to dispatch."""
        return await self._write(orders.retry, order)

    async def retry_all(self, ordered: Sequence[Order]) -> Sequence[orders.Retried | orders.Refused]:
        """Makes failed and cancelled tasks pending again, all in one commit; a sweep takes them."""
        return await self._writer.run(orders.make_due, ordered)

    async def erase(self, order: Order) -> orders.Deleted | orders.Refused:
        """Deletes a finished task."""
        return await self._write(orders.erase, order)
