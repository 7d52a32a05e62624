"""The service's side of zygotes and cells: starting them, talking to them, killing them. asyncio; nothing here blocks.

What a cell sends is bounded and parsed as fixed records: a cell is ours, but it stands next to hostile code.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from sandbox.interface import RunnerLost, SandboxUnavailable
from sandbox.namespaces.cgroups import CellCgroup, Cgroups
from sandbox.namespaces.channel import Channel

_CODE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START_S = 30.0
_FOREVER_S = 1e9
_GONE_S = 5.0
_DIAGNOSTICS_BYTES = 65536


_AT_START = {"LD_BIND_NOW": "1"}  # symbols that are looked up before the first fork are not looked up in every test; taken back at once


@dataclass(frozen=True, slots=True)
class ZygoteConfig:
    """How one zygote is made: interpreter, root, warm modules, and the uid that root gives it."""

    python: str
    shown: dict[str, str]
    masked: tuple[str, ...]
    packages: str | None
    preload: tuple[str, ...]
    uid: int
    stack_bytes: int
    spares: int = 1  # cells kept forked ahead of the programs that will need them


class Cell:
    """One program's supervisor, seen from the service. Raises RunnerLost where it is gone already."""

    def __init__(self, zygote: Zygote, channel: Channel, ended: asyncio.Future[int], group: CellCgroup | None) -> None:
        self._zygote = zygote
        self.channel = channel
        self.pid = channel.peer_pid
        self.ended = ended
        self.group = group
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            raise RunnerLost(f"no cell: {error}") from error

    def cpu_s(self) -> float:
        """CPU seconds of the supervisor itself, 0.0 once it is gone."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def close(self) -> None:
        """Kill the supervisor, the init of its pid namespace, and so everything in it; its cgroup is used again once all of it is gone."""
        self.channel.close()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
            self._zygote.retire(self)

    def loaded(self) -> None:
        """Its program is loaded: now is the time to fork the next cell, which would have been in the way before."""
        self._zygote.refill()

    async def gone(self) -> None:
        """Wait until the kernel has ended all of its processes."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), _GONE_S)


class Zygote:
    """A warm process that forks cells."""

    def __init__(self, config: ZygoteConfig, cgroups: Cgroups | None) -> None:
        self._config = config
        self._cgroups = cgroups
        self._burials: set[asyncio.Task[None]] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._numbers = itertools.count(1)
        self._listener: asyncio.Task[None] | None = None
        self._diagnostics = -1
        self._lock = asyncio.Lock()
        self._spares: collections.deque[Cell] = collections.deque()
        self._refill: asyncio.Task[None] | None = None
        self._forks: set[asyncio.Task[Cell]] = set()

    @property
    def alive(self) -> bool:
        """Whether it can fork."""
        return self._channel is not None and self._listener is not None and self._channel.is_open()

    @property
    def pid(self) -> int:
        """Its process, whose only child is the init of its pid namespace; 0 where it does not run."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start and wait until it is warm. Raises SandboxUnavailable with what it printed."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        config = self._config
        text = json.dumps(
            {"code": _CODE, "control": theirs.fileno(), "shown": config.shown, "masked": config.masked, "packages": config.packages,
             "preload": config.preload, "uid": config.uid}
        )  # fmt: skip
        self._diagnostics = _bounded_file()
        order = os.memfd_create("order", os.MFD_CLOEXEC)  # not on the command line, which programs can read
        os.write(order, text.encode())
        os.lseek(order, 0, os.SEEK_SET)
        script = os.path.join(os.path.dirname(__file__), "zygote.py")
        stack = config.stack_bytes
        # The hard limit stays as it is: programs that lift their stack's limits, as templates do, mean as much as there is.
        command = ["/bin/sh", "-c", f'ulimit -S -s {stack // 1024}; exec "$@"', "sh"]
        self._process = subprocess.Popen(
            [*command, config.python, "-S", "-s", "-P", "-B", script],
            pass_fds=[theirs.fileno()],
            stdin=order,
            stdout=subprocess.DEVNULL,
            stderr=self._diagnostics,
            env={**_environment(), **_AT_START},
            cwd="/",
        )
        theirs.close()
        os.close(order)
        self._channel = Channel(ours)
        try:
            await self._channel.receive(_START_S)
        except (TimeoutError, RunnerLost) as error:
            raise SandboxUnavailable(explain(self.said())) from error
        self._listener = asyncio.create_task(self._listen(self._channel))

    def said(self) -> str:
        """The last it wrote to its standard error."""
        if self._diagnostics < 0:
            return ""
        return os.pread(self._diagnostics, _DIAGNOSTICS_BYTES, 0).rstrip(b"\0")[-1000:].decode("utf-8", "replace").strip()

    async def _listen(self, channel: Channel) -> None:
        with contextlib.suppress(RunnerLost):
            while True:
                message = json.loads((await channel.receive(_FOREVER_S))[0])
                future = self._ended.pop(message["ended"], None)
                if future is not None and not future.done():
                    future.set_result(message["status"])
        while self._ended:
            _, future = self._ended.popitem()
            if not future.done():
                future.set_result(signal.SIGKILL)

    async def spawn(self) -> Cell:
        """A fresh cell, forked ahead where one is left. Raises RunnerLost."""
        while self._spares:
            cell = self._spares.popleft()
            if self.alive and cell.channel.is_open():  # a zygote's channel closes before its cells are killed
                return cell
            cell.close()
        return await self._new_cell()

    async def _new_cell(self) -> Cell:
        """A cell forked now, in a task of its own: who asked for it may be cancelled, and then it is a spare."""
        task = asyncio.create_task(self._fork())
        self._forks.add(task)
        task.add_done_callback(self._forks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._keep)
            raise

    def _keep(self, task: asyncio.Task[Cell]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._spares.append(task.result())

    def refill(self) -> None:
        """Fork spare cells in the background."""
        if self._refill is None or self._refill.done():
            self._refill = asyncio.create_task(self._keep_spares())

    async def _keep_spares(self) -> None:
        with contextlib.suppress(RunnerLost):  # the next program's own fork says so to somebody who can act on it
            while self.alive and len(self._spares) < self._config.spares:
                self._spares.append(await self._new_cell())

    async def _fork(self) -> Cell:
        async with self._lock:
            if not self.alive:
                await self._restart()
        assert self._channel is not None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise RunnerLost(f"no cell: {error}") from error
        number = next(self._numbers)
        channel = Channel(ours)
        self._ended[number] = ended = asyncio.get_running_loop().create_future()
        group: CellCgroup | None = None
        try:
            with theirs:
                group = await asyncio.to_thread(self._cgroups.take) if self._cgroups is not None else None
                with group.doors() if group is not None else contextlib.nullcontext(()) as doors:
                    self._channel.send(b"%d %d" % (number, len(doors)), [theirs.fileno(), *doors])
            await channel.receive(_START_S)
            if group is not None and not doors:
                await asyncio.to_thread(group.admit, channel.peer_pid)
            return Cell(self, channel, ended, group)
        except BaseException as error:
            channel.close()
            if group is not None:
                self._bury(ended, group)
            if isinstance(error, (TimeoutError, RunnerLost)):
                raise RunnerLost(f"no cell: {self.said()}") from error
            if isinstance(error, OSError):
                raise RunnerLost(f"no cgroup for a cell: {error}") from error
            raise

    def retire(self, cell: Cell) -> None:
        """Use its cgroup again once nothing of it is left."""
        if cell.group is not None:
            self._bury(cell.ended, cell.group)

    def _bury(self, ended: asyncio.Future[int], group: CellCgroup) -> None:
        task = asyncio.create_task(self._give_back(ended, group))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _give_back(self, ended: asyncio.Future[int], group: CellCgroup) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), _GONE_S)
            await asyncio.wait_for(_emptied(group), _GONE_S)
            if self._cgroups is not None:
                self._cgroups.give_back(group)

    async def _restart(self) -> None:
        await self._stop()
        try:
            await self.start()
        except (SandboxUnavailable, OSError) as error:
            raise RunnerLost(str(error)) from error

    async def close(self) -> None:
        """End it and everything it forked."""
        for task in self._forks:
            task.cancel()
        await asyncio.gather(*self._forks, return_exceptions=True)
        await self._stop()

    async def _stop(self) -> None:
        if self._refill is not None and self._refill is not asyncio.current_task():
            self._refill.cancel()
            await asyncio.gather(self._refill, return_exceptions=True)
            self._refill = None
        while self._spares:
            self._spares.pop().close()
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            for _ in range(100):
                if self._process.poll() is not None:
                    break
                await asyncio.sleep(0.02)
            else:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._listener is not None:
            await self._listener
            self._listener = None
        self._channel = None
        await asyncio.gather(*self._burials, return_exceptions=True)
        if self._diagnostics >= 0:
            os.close(self._diagnostics)
            self._diagnostics = -1


async def _emptied(group: CellCgroup) -> None:
    while not group.is_empty():  # a zygote's end is heard of before its cells are gone
        await asyncio.sleep(0.01)


def _bounded_file() -> int:
    """A file for a zygote's standard error that cannot grow, whatever programs make it say."""
    descriptor = os.memfd_create("diagnostics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _DIAGNOSTICS_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def _environment() -> dict[str, str]:
    """What programs see: nothing of the service's own environment."""
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    one_thread = {f"{library}_NUM_THREADS": "1" for library in libraries}
    fixed = {"PATH": "/usr/bin:/bin", "HOME": "/box/work", "TMPDIR": "/tmp", "TZ": "UTC", "LANG": "C.UTF-8", "ONLINE_JUDGE": "1"}
    return {**fixed, **one_thread, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def explain(said: str) -> str:
    """What to do about a zygote that could not build its box."""
    last = said.rsplit("\n", 1)[-1]
    if "setgroups" in last and not os.path.exists("/proc/self/setgroups"):
        return f"this kernel, gVisor's or another, lacks what boxes need (pidfds, limits of inodes; {last}): use the engine's own runtime"
    if "mount /proc" in last:
        return (
            f"the container's /proc is masked ({last}). Set systempaths=unconfined (docker run and Compose v2: security_opt; Kubernetes: "
            "procMount: Unmasked)"
        )
    if "unshare" in last or "Operation not permitted" in last or "uid_map" in last or "Permission denied" in last:
        return (
            f"user namespaces are not allowed here ({last}). Set kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 23.10 and newer), "
            "kernel.unprivileged_userns_clone=1 (older Debian) and user.max_user_namespaces above 0; in a container an ordinary user, the "
            "seccomp profile deploy/seccomp.json and, where AppArmor is on, apparmor=unconfined"
        )
    return f"the sandbox's first process did not start on {sys.platform}: {last or 'it printed nothing'}"
