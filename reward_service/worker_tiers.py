"""Two kinds of workers: light ones, which hold the fast stages, and a few that hold SymPy, started when the first task needs them.

Most comparisons never need SymPy, whose import takes most of a second and 60 MB in each process. A task that does (`Task.heavy`) must
not pay for that import out of its own limit, so its workers are warm before it starts.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from reward_service.effects import Task
from reward_service.workers import HEAVY_PRELOAD, WorkerPool, WorkerStats

R = TypeVar("R")

LIGHT_PER_HEAVY = 4  # light workers for each that holds SymPy


class TieredPool:
    """`count` light workers, and a quarter as many heavy ones on demand; implements `effects.Workers`. Belongs to one event loop."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        self.count = count
        self._light = WorkerPool(count, memory_bytes)
        self._heavy = WorkerPool(-(-count // LIGHT_PER_HEAVY), memory_bytes, preload=HEAVY_PRELOAD)
        self._heavy_started: asyncio.Task[None] | None = None

    @property
    def stats(self) -> WorkerStats:
        """Numbers of both kinds together, for metrics."""
        one, other = self._light.stats, self._heavy.stats
        return WorkerStats(
            one.workers + other.workers,
            one.busy + other.busy,
            one.waiting + other.waiting,
            one.items + other.items,
            one.killed + other.killed,
            one.restarts + other.restarts,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers."""
        return self._light.pids + self._heavy.pids

    async def start(self) -> None:
        """Start the light processes and wait until they are ready.

        Raises:
            WorkerLost: the machine's fault or ours: a worker cannot be started.
        """
        await self._light.start()

    async def run(self, task: Task[R], *args: object) -> R:
        """The function's result, computed in a worker of the kind that it needs.

        Raises:
            JobKilled: the item's own doing.
            WorkerLost, Cancelled: ours.
        """
        if not task.heavy:
            return await self._light.run(task, *args)
        if self._heavy_started is None or (self._heavy_started.done() and self._failed(self._heavy_started)):
            self._heavy_started = asyncio.get_running_loop().create_task(self._heavy.start())
        await asyncio.shield(self._heavy_started)
        return await self._heavy.run(task, *args)

    @staticmethod
    def _failed(started: asyncio.Task[None]) -> bool:
        return started.cancelled() or started.exception() is not None

    async def close(self) -> None:
        """Kill all workers; what still waits is `Cancelled`."""
        if self._heavy_started is not None:
            self._heavy_started.cancel()
            await asyncio.gather(self._heavy_started, return_exceptions=True)
        await asyncio.gather(self._light.close(), self._heavy.close())
