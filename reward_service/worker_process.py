"""One worker process as its parent sees it: the socket, the clocks, and the item that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from reward_service.errors import WorkerLost
from reward_service.worker_main import Call, Reply, Setup, frame, split_frame

CPU_GRACE_S = 0.05  # the worker's own measure decides at the limit; we kill a little above it
PATIENCE = 4  # times the net of the wall clock for an item that it has stopped before: then it had a tenth of a core and was too slow


@dataclass(slots=True, eq=False)
class Job:
    """One item and its history."""

    function: str
    args: msgspec.Raw
    cpu_s: float
    decode: Callable[[msgspec.Raw], Any]
    future: asyncio.Future[Any]
    stops: int = 0
    crashes: int = 0
    losses: int = 0


class WorkerDied(WorkerLost):
    """Ours: the process ended before it was ready, without saying why."""


class Owner(Protocol):
    """Whoever is told what becomes of a worker."""

    def replied(self, worker: Worker, reply: Reply) -> None:
        """The worker answered."""
        ...

    def stopped(self, worker: Worker, cause: str) -> None:
        """The worker's item used up one of its clocks: `cpu_limit` or `wall_limit`."""
        ...

    def lost(self, worker: Worker) -> None:
        """The worker's socket was closed."""
        ...


class Worker(asyncio.Protocol):
    """One process: its socket, its clock, and the item that it runs."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._replies = msgspec.msgpack.Decoder(Reply)
        self._alarm: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._cpu_start_s = 0.0
        self._wall_start_s = 0.0
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.item = 0
        self.sent = False  # whether the process was given the item
        self.job: Job | None = None
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, setup: Setup) -> None:
        """Start the process and wait until it is ready.

        Raises:
            WorkerLost: ours: it could not be started, or ended before it was ready.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                command = [sys.executable, "-P", "-m", "reward_service.worker_main", str(theirs.fileno())]
                self.process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(),),
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise WorkerLost(f"no process: {type(error).__name__}") from error
        transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ours)
        self._transport = transport
        transport.write(frame(setup))
        await self.ready

    def run(self, item: int, job: Job) -> None:
        """Send an item and watch its clocks."""
        assert self._transport is not None
        self.item, self.job = item, job
        self._cpu_start_s = self._cpu_s()
        self._wall_start_s = self._loop.time()
        self._alarm = self._loop.call_later(job.cpu_s + CPU_GRACE_S, self._check)
        self.sent = False
        if not self._transport.is_closing():  # it may have ended while it was idle, and its end be on its way to us
            with contextlib.suppress(RuntimeError, OSError):  # what event loops raise where that was seen in between
                self._transport.write(frame(Call(item, job.function, job.cpu_s, job.args)))
                self.sent = True

    def release(self) -> Job | None:
        """Forget the item."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        job, self.job = self.job, None
        return job

    def kill(self) -> None:
        """End the process; whoever calls this has released the item."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def reap(self) -> int:
        """The exit code, as `subprocess` gives it; whoever closed its socket without ending is killed after a second."""
        assert self.process is not None
        attempts = itertools.count()
        while (code := self.process.poll()) is None:
            attempt = next(attempts)
            if attempt == 100:
                self.process.kill()
            await asyncio.sleep(0.001 if attempt < 10 else 0.01)
        return code

    def data_received(self, data: bytes) -> None:
        """Bytes came from the process."""
        self._data += data
        while (body := split_frame(self._data)) is not None:
            reply = self._replies.decode(body)
            if self.ready.done():
                self._owner.replied(self, reply)
            elif reply.status == "ready":
                self.ready.set_result(None)
            else:
                self.ready.set_exception(WorkerLost(f"a worker cannot start: {msgspec.msgpack.decode(reply.body, type=str)}"))

    def connection_lost(self, error: Exception | None) -> None:
        """The process closed its socket: as a rule, it ended."""
        if not self.ready.done():
            self.ready.set_exception(WorkerDied("a worker ended before it was ready"))
        self._owner.lost(self)

    def _cpu_s(self) -> float:
        assert self.process is not None
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
        except OSError:
            return 0.0  # it is gone; the end of its socket is on its way

    def _check(self) -> None:
        job = self.job
        if job is None:
            return
        cpu_left_s = job.cpu_s + CPU_GRACE_S - (self._cpu_s() - self._cpu_start_s)
        patience = PATIENCE if job.stops else 1
        wall_left_s = patience * (2 * job.cpu_s + 2) - (self._loop.time() - self._wall_start_s)
        if cpu_left_s <= 0:
            self._owner.stopped(self, "cpu_limit")
        elif wall_left_s <= 0:
            self._owner.stopped(self, "wall_limit")
        else:
            self._alarm = self._loop.call_later(max(0.005, min(cpu_left_s, wall_left_s)), self._check)


def _environment() -> dict[str, str]:
    """A worker's whole environment: it imports from where we do, repeats its hashes, and sees no key of ours."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }
