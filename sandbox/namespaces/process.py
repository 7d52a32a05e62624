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
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.interface import RunnerLost, SandboxUnavailable
from sandbox.namespaces.cgroups import CellCgroup, Cgroups

_CODE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START_S = 30.0
_FOREVER_S = 1e9
_MESSAGE_BYTES = 65536
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(8)  # credentials, two descriptors
_DIAGNOSTICS_BYTES = 65536


_AT_START = {"LD_BIND_NOW": "1"}  # symbols that are looked up before the first fork are not looked up in every test; taken back at once


class Channel:
    """One end of a SOCK_SEQPACKET pair on the running loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._messages: collections.deque[tuple[bytes, tuple[int, ...]]] = collections.deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = False
        self.peer_pid = 0
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        while True:
            try:
                message, ancillary, _, _ = self._socket.recvmsg(_MESSAGE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                break
            except OSError:
                message, ancillary = b"", []
            if not message:
                self.ended = True
                self._loop.remove_reader(self._socket.fileno())
                break
            descriptors: tuple[int, ...] = ()
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    self.peer_pid = struct.unpack("3i", data[:12])[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors = struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
            self._messages.append((message, descriptors))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_open(self) -> bool:
        """Whether the other side is still there, looked at now and not at the event loop's next turn."""
        if not self.ended:
            self._on_readable()
        return not self.ended

    async def receive(self, within_s: float) -> tuple[bytes, tuple[int, ...]]:
        """The next message and its descriptors, the caller's to close. Raises TimeoutError, and RunnerLost where the other side is gone."""
        if not self._messages:
            timer = self._loop.call_later(within_s, self._expire)  # far cheaper than a task that waits, once per test
            try:
                await self._arrival()
            finally:
                timer.cancel()
        return self._messages.popleft()

    async def _arrival(self) -> None:
        while not self._messages:
            if self.ended:
                raise RunnerLost("the supervisor's channel closed")
            self._waiter = self._loop.create_future()
            await self._waiter

    def _expire(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one message with descriptors. Raises RunnerLost."""
        try:
            if descriptors:
                socket.send_fds(self._socket, [message], descriptors)
            else:
                self._socket.send(message)
        except OSError as error:
            raise RunnerLost("the supervisor is gone") from error

    def close(self) -> None:
        """Close this end; the other side then ends itself."""
        if self._socket.fileno() >= 0:
            if not self.ended:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        while self._messages:
            for descriptor in self._messages.popleft()[1]:
                os.close(descriptor)
        self.ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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
    """One program's supervisor, seen from the service."""

    def __init__(self, zygote: Zygote, channel: Channel, ended: asyncio.Future[int], group: CellCgroup | None) -> None:
        self._zygote = zygote
        self.channel = channel
        self.pid = channel.peer_pid
        self.ended = ended
        self.group = group

    def cpu_s(self) -> float:
        """CPU seconds of the supervisor itself, 0.0 once it is gone."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def kill(self) -> None:
        """Kill the supervisor, the init of its pid namespace, and so everything in it."""
        self.channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not self.ended.done():
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it; its cgroup is used again once all of it is gone."""
        self.kill()
        self._zygote.retire(self)

    def loaded(self) -> None:
        """Its program is loaded: now is the time to fork the next cell, which would have been in the way before."""
        self._zygote.refill()

    async def gone(self) -> None:
        """Wait until the kernel has ended all of its processes."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), 5)


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

    @property
    def alive(self) -> bool:
        """Whether it can fork."""
        return self._channel is not None and self._channel.is_open()

    @property
    def pid(self) -> int:
        """Its process, whose only child is the init of its pid namespace; 0 where it does not run."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start and wait until it is warm. Raises SandboxUnavailable with what it printed."""
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
            said = self.said()
            await self.close()
            raise SandboxUnavailable(explain(said)) from error
        self._listener = asyncio.create_task(self._listen(self._channel))

    def said(self) -> str:
        """The last it wrote to its standard error."""
        return os.pread(self._diagnostics, _DIAGNOSTICS_BYTES, 0).rstrip(b"\0")[-1000:].decode("utf-8", "replace").strip()

    async def _listen(self, channel: Channel) -> None:
        with contextlib.suppress(RunnerLost):
            while True:
                message = json.loads((await channel.receive(_FOREVER_S))[0])
                future = self._ended.pop(message["ended"], None)
                if future is not None and not future.done():
                    future.set_result(message["status"])
        for future in self._ended.values():
            if not future.done():
                future.set_result(signal.SIGKILL)

    async def spawn(self) -> Cell:
        """A fresh cell, forked ahead where one is left. Raises RunnerLost."""
        while self._spares:
            cell = self._spares.popleft()
            if self.alive and cell.channel.is_open():  # a zygote's channel closes before its cells are killed
                return cell
            cell.close()
        return await self._fork()

    def refill(self) -> None:
        """Fork spare cells in the background."""
        if self._refill is None or self._refill.done():
            self._refill = asyncio.create_task(self._keep_spares())

    async def _keep_spares(self) -> None:
        with contextlib.suppress(RunnerLost):  # the next program's own fork says so to somebody who can act on it
            while self.alive and len(self._spares) < self._config.spares:
                self._spares.append(await self._fork())

    async def _fork(self) -> Cell:
        async with self._lock:
            if not self.alive:
                await self._restart()
        assert self._channel is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = next(self._numbers)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        channel = Channel(ours)
        self._ended[number] = ended
        try:
            with theirs:
                self._channel.send(str(number).encode(), [theirs.fileno()])
            await channel.receive(_START_S)
        except (TimeoutError, RunnerLost) as error:
            channel.close()
            raise RunnerLost(f"no cell: {self.said()}") from error
        except asyncio.CancelledError:
            channel.close()
            raise
        group = None
        if self._cgroups is not None:
            try:
                group = await asyncio.to_thread(self._admit, self._cgroups, channel.peer_pid)
            except OSError as error:
                channel.close()
                raise RunnerLost(f"no cgroup for a cell: {error}") from error
        return Cell(self, channel, ended, group)

    @staticmethod
    def _admit(cgroups: Cgroups, pid: int) -> CellCgroup:
        group = cgroups.take()
        group.admit(pid)
        return group

    def retire(self, cell: Cell) -> None:
        """Use its cgroup again once nothing of it is left."""
        task = asyncio.create_task(self._bury(cell))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _bury(self, cell: Cell) -> None:
        await cell.gone()
        if cell.group is not None and self._cgroups is not None and cell.ended.done():
            self._cgroups.give_back(cell.group)

    async def _restart(self) -> None:
        await self.close()
        try:
            await self.start()
        except SandboxUnavailable as error:
            raise RunnerLost(str(error)) from error

    async def close(self) -> None:
        """End it and everything it forked."""
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
        await asyncio.gather(*self._burials, return_exceptions=True)
        if self._diagnostics >= 0:
            os.close(self._diagnostics)
            self._diagnostics = -1


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
