"""A fair, bounded gate: shares of the machine take turns, so that one item never waits behind another's thousands."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from reward_service.errors import DeadlineExceeded

_REMEMBERED_SHARES = 1024


class Turns:
    """`slots` permits for work that shares ask for; a free slot goes to the share that was served longest ago.

    Belongs to one event loop. A cancelled or late waiter never holds or loses a permit.
    """

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError("slots must be at least 1")
        self.slots = slots
        self._free = slots
        self._tick = 0
        self._last: OrderedDict[str, int] = OrderedDict()  # share -> when it was last served
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._order: list[tuple[int, int, str]] = []  # heap of waiting shares: (last served, arrival, share)

    @property
    def busy(self) -> int:
        """Permits in use, in [0, slots]."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """Waiters in all queues."""
        return sum(not waiter.done() for queue in self._queues.values() for waiter in queue)

    @contextlib.asynccontextmanager
    async def take(self, share: str, start_by: float | None = None) -> AsyncIterator[None]:
        """Hold a permit; `start_by` is a time of the event loop's clock.

        Raises:
            DeadlineExceeded: nobody's fault: the turn had not come by `start_by`, also when that has already passed.
        """
        await self._acquire(share, start_by)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, share: str, start_by: float | None) -> None:
        loop = asyncio.get_running_loop()
        if start_by is not None and loop.time() >= start_by:
            raise DeadlineExceeded("not started before the deadline")
        if self._free and not self._order:
            self._grant(share)
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._enqueue(share, waiter)
        alarm = None if start_by is None else loop.call_at(start_by, _expire, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # the turn came in the same moment as the cancellation
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _enqueue(self, share: str, waiter: asyncio.Future[None]) -> None:
        queue = self._queues.get(share)
        if queue is None:
            queue = self._queues[share] = deque()
            self._tick += 1
            heapq.heappush(self._order, (self._last.get(share, 0), self._tick, share))
        queue.append(waiter)

    def _grant(self, share: str) -> None:
        self._free -= 1
        self._tick += 1
        self._last[share] = self._tick
        self._last.move_to_end(share)
        if len(self._last) > _REMEMBERED_SHARES:
            self._last.popitem(last=False)

    def _release(self) -> None:
        self._free += 1
        while self._free and self._order:
            _, _, share = heapq.heappop(self._order)
            queue = self._queues[share]
            waiter = _next_alive(queue)
            if waiter is not None:
                self._grant(share)
                waiter.set_result(None)
            if queue:
                self._tick += 1
                heapq.heappush(self._order, (self._last.get(share, 0), self._tick, share))
            else:
                del self._queues[share]


def _next_alive(queue: deque[asyncio.Future[None]]) -> asyncio.Future[None] | None:
    while queue:
        waiter = queue.popleft()
        if not waiter.done():
            return waiter
    return None


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(DeadlineExceeded("not started before the deadline"))
