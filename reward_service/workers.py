"""Processes that run pure functions and are killed at their deadline.

One event loop owns a pool; nothing here blocks it, and nothing needs the main thread or a signal handler: a worker's end is seen as
the end of its socket, its CPU time is read from its clock. A worker runs one item at a time, so that whatever ends it ended it in
that item's company:

- CPU limit: killed, `cpu_limit`. The wall clock is a net of 2 * cpu_s + 2 s; what it stops is done again while nothing else runs
  here, with four times as much, and a second stop is `wall_limit`.
- MemoryError: `memory_limit`. Another exception: `exception`.
- A signal that a process raises in itself (SIGSEGV, SIGABRT, ...): done again alone, then `signal`.
- Any other end, SIGKILL above all, is ours: done again alone, after five times `WorkerLost`.

What is not guaranteed: a worker is no sandbox. It runs our code on hostile text, never hostile code.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from reward_service.effects import Task
from reward_service.errors import Cancelled, JobKilled, WorkerLost
from reward_service.worker_main import Reply, Setup, decoder, encode, name_of
from reward_service.worker_process import Job, Worker, WorkerDied

R = TypeVar("R")

SPARES = 1  # warm processes beyond `count`, so that a killed one is replaced at once
LOSSES = 5  # deaths without evidence after which an item is given up
START_ATTEMPTS = 5  # failed starts in a row after which waiting items are given up; those that were killed do not count
UNMANNED_S = 60.0  # without any worker after which waiting items are given up, whatever kills those that start
DEFAULT_PRELOAD = (
    "reward_service.scoring.equivalence.choices",
    "reward_service.scoring.equivalence.lightly",
    "reward_service.langid",
    "reward_service.worker_batches",
)
# Few items need SymPy; the first that does must not pay for its import out of its own limit.
HEAVY_PRELOAD = (*DEFAULT_PRELOAD, "sympy", "math_verify")
_OWN_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP, signal.SIGXFSZ}
)


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """What the pool does now (`workers busy waiting`) and has done (`items killed restarts`)."""

    workers: int
    busy: int
    waiting: int
    items: int
    killed: int
    restarts: int


class WorkerPool:
    """Runs tasks in `count` processes, first come, first served; implements `effects.Workers`.

    `memory_bytes` is what an item may have beyond the warm interpreter. A worker retires after `retire_items` items or when its
    memory has grown by `retire_bytes`. `prefixes` are the packages whose functions may run, `preload` the modules that a worker
    imports before it is ready. Belongs to the event loop in which it is started.
    """

    def __init__(
        self,
        count: int,
        memory_bytes: int,
        *,
        retire_items: int = 5_000,
        retire_bytes: int = 268_435_456,
        prefixes: tuple[str, ...] = ("reward_service",),
        preload: tuple[str, ...] = DEFAULT_PRELOAD,
    ) -> None:
        if count < 1 or memory_bytes < 1:
            raise ValueError("count and memory_bytes must be at least 1")
        self.count = count
        self._setup = Setup(os.getpid(), memory_bytes, retire_items, retire_bytes, prefixes, preload)
        self._queue: deque[Job] = deque()
        self._quiet: deque[Job] = deque()  # to be done again while nothing else runs
        self._quiet_runs = False
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._gone: set[Worker] = set()  # ended by us; their end says nothing about an item
        self._chores: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._items = self._killed = self._restarts = self._failed_starts = 0
        self._manned_s = 0.0  # when a worker was last known to live
        self._open = False

    @property
    def stats(self) -> WorkerStats:
        """Numbers for metrics."""
        waiting = sum(not job.future.done() for job in itertools.chain(self._queue, self._quiet))
        workers = len(self._idle) + len(self._busy)
        return WorkerStats(workers, len(self._busy), waiting, self._items, self._killed, self._restarts)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers."""
        return tuple(worker.process.pid for worker in (*self._idle, *self._busy) if worker.process is not None)

    async def start(self) -> None:
        """Start all processes and wait until they are ready.

        Raises:
            WorkerLost: the machine's fault or ours: a worker cannot be started.
        """
        self._open = True
        workers = [Worker(self) for _ in range(self.count + SPARES)]
        try:
            await asyncio.gather(*(worker.start(self._setup) for worker in workers))
        except WorkerLost:
            for worker in workers:
                self._discard(worker)
            await self.close()
            raise
        self._idle += workers
        self._manned_s = asyncio.get_running_loop().time()
        self._dispatch()

    async def run(self, task: Task[R], *args: object) -> R:
        """The function's result, computed in a worker.

        Raises:
            JobKilled: the item's own doing.
            WorkerLost, Cancelled: ours: see the module's docstring; the pool was closed.
        """
        if not self._open:
            raise Cancelled("the workers are not running")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        result: Any = task.result
        job = Job(name_of(task.function), encode(args), task.cpu_s, decoder(result), future)
        self._queue.append(job)
        self._dispatch()
        return await future

    async def close(self) -> None:
        """Kill all workers; what still waits is `Cancelled`."""
        self._open = False
        running = [worker.release() for worker in self._busy]
        for job in (*self._queue, *self._quiet, *(job for job in running if job is not None)):
            _fail(job, Cancelled("the workers were stopped"))
        self._queue.clear()
        self._quiet.clear()
        for worker in (*self._idle, *self._busy):
            self._discard(worker)
        self._idle.clear()
        self._busy.clear()
        while self._chores:
            await asyncio.gather(*self._chores, return_exceptions=True)
            for worker in self._idle:  # started while we closed
                self._discard(worker)
            self._idle.clear()

    # ---- what workers report -----------------------------------------------------------------------------------------

    def replied(self, worker: Worker, reply: Reply) -> None:
        """A worker answered."""
        if worker.job is None or reply.item != worker.item:
            self._retire(worker)  # an answer that nobody asked for: nothing that it says may be used
            return
        job = self._take_from(worker)
        self._manned_s = asyncio.get_running_loop().time()
        self._items += 1
        if reply.cpu_s > job.cpu_s:
            self._end(job, JobKilled("cpu_limit"))
        elif reply.status == "ok":
            self._settle(job, reply.body)
        elif reply.status == "memory":
            self._end(job, JobKilled("memory_limit"))
        elif reply.status == "exception":
            name = msgspec.msgpack.decode(reply.body, type=str)
            self._end(job, JobKilled("memory_limit" if name == "MemoryError" else "exception", name))
        else:
            _fail(job, WorkerLost(f"not a task: {msgspec.msgpack.decode(reply.body)}"))
        if reply.retire:
            self._retire(worker)
        else:
            self._idle.append(worker)
        self._dispatch()

    def stopped(self, worker: Worker, cause: str) -> None:
        """A worker's item used up one of its clocks."""
        job = self._take_from(worker)
        self._retire(worker)
        job.stops += cause == "wall_limit"
        if cause == "wall_limit" and job.stops < 2:
            self._quiet.append(job)
        else:
            self._end(job, JobKilled(cause))
        self._dispatch()

    def lost(self, worker: Worker) -> None:
        """A worker's socket was closed."""
        if worker not in self._gone:
            idle = worker in self._idle
            if idle:
                self._idle.remove(worker)  # now: it must not be given an item while we wait for its end
            self._chore(self._bury(worker, idle))

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _bury(self, worker: Worker, idle: bool) -> None:
        code = await worker.reap()
        if worker in self._gone:
            return
        busy = worker in self._busy
        job = self._take_from(worker) if busy else None
        if job is not None and worker.sent:
            self._blame(job, code)
        elif job is not None:  # it never got there
            (self._quiet if job.stops or job.crashes or job.losses else self._queue).appendleft(job)
        if busy or idle:
            self._replace()
        self._dispatch()

    def _blame(self, job: Job, code: int) -> None:
        """Decide what an unexpected death says about the item in whose company it happened."""
        if code == -signal.SIGXCPU:
            self._end(job, JobKilled("cpu_limit"))
            return
        own = code >= 0 or -code in _OWN_SIGNALS
        job.crashes += own
        job.losses += not own
        if job.crashes >= 2:
            self._end(job, JobKilled("signal" if code < 0 else "exception"))
        elif job.losses >= LOSSES:
            _fail(job, WorkerLost(f"a worker died {LOSSES} times"))
        else:
            self._quiet.append(job)

    def _dispatch(self) -> None:
        """Give waiting items to idle workers; an item that is done again waits until nothing else runs."""
        while self._open and self._idle and len(self._busy) < self.count and not self._quiet_runs:
            quiet = bool(self._quiet)
            if quiet and self._busy:
                return
            queue = self._quiet if quiet else self._queue
            if not queue:
                return
            job = queue.popleft()
            if job.future.done():
                continue  # cancelled while it waited
            worker = self._idle.pop()
            self._busy.add(worker)
            self._quiet_runs = quiet
            worker.run(next(self._numbers), job)

    def _take_from(self, worker: Worker) -> Job:
        job = worker.release()
        assert job is not None
        self._busy.discard(worker)
        if not self._busy:
            self._quiet_runs = False
        return job

    def _settle(self, job: Job, body: msgspec.Raw) -> None:
        if job.future.done():
            return  # cancelled while it ran
        try:
            job.future.set_result(job.decode(body))
        except (msgspec.DecodeError, TypeError) as error:
            _fail(job, WorkerLost(f"{job.function}: result is not of its type ({type(error).__name__})"))

    def _end(self, job: Job, error: JobKilled) -> None:
        self._killed += 1
        _fail(job, error)

    def _retire(self, worker: Worker) -> None:
        self._busy.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._discard(worker)
        self._replace()

    def _discard(self, worker: Worker) -> None:
        if worker.process is not None and worker not in self._gone:
            self._gone.add(worker)
            worker.kill()
            self._chore(self._forget(worker))

    async def _forget(self, worker: Worker) -> None:
        await worker.reap()
        self._gone.discard(worker)

    def _replace(self) -> None:
        if self._open:
            self._restarts += 1
            self._chore(self._start_another())

    async def _start_another(self) -> None:
        while self._open:
            worker = Worker(self)
            try:
                await worker.start(self._setup)
            except WorkerLost as error:
                killed = isinstance(error, WorkerDied) and await worker.reap() == -signal.SIGKILL
                self._discard(worker)
                self._failed_starts += not killed
                unmanned_s = asyncio.get_running_loop().time() - self._manned_s
                if (self._failed_starts >= START_ATTEMPTS or unmanned_s > UNMANNED_S) and not self._idle and not self._busy:
                    self._give_up(error)
                await asyncio.sleep(min(2.0, 0.05 * 2 ** min(self._failed_starts, 6)))
                continue
            self._failed_starts = 0
            self._manned_s = asyncio.get_running_loop().time()
            self._idle.insert(0, worker)
            self._dispatch()
            return

    def _give_up(self, error: WorkerLost) -> None:
        for job in (*self._queue, *self._quiet):
            _fail(job, WorkerLost(str(error)))
        self._queue.clear()
        self._quiet.clear()

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _fail(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
