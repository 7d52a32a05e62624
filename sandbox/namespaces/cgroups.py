"""Memory and CPU accounting by cgroup, version 1 or 2, where a folder is delegated to us. Runs in the service.

Each cell has one while it lives. Cells are admitted when they are forked ahead, and cgroups are used again, so that none of it is on a
job's way. In version 1 a cell moves itself in: to move another process the kernel halts every fork of the machine, for four milliseconds
and more.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.interface import SandboxUnavailable

_PREFIX = "reward-sandbox-"
_ROOT = "/sys/fs/cgroup"
_NEIGHBOURS = 1000  # cgroups beside ours that are looked at
_ENTER = 'for door; do echo 0 >"/proc/self/fd/$door" || exit 1; done; cat'  # in a shell, given the numbers of its doors
_LINGERING_BYTES = 8 << 20  # more in use without a process, and a file system or an object in memory is still being taken down
_CLAIMS, _CLAIM_S = 200, 0.002  # attempts at a folder of ours, against services that sweep at the same moment


@dataclass(frozen=True, slots=True)
class Files:
    """Names of the files of one version."""

    version: int
    limit: str
    usage: str
    peak: str
    events: str
    cpu: str


_V1 = Files(1, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "cpuacct.usage")
_V2 = Files(2, "memory.max", "memory.current", "memory.peak", "memory.events", "cpu.stat")


class CellCgroup:
    """The cgroup of one cell. `cpu_path` is where CPU time is counted: the same folder in version 2, another hierarchy in version 1."""

    def __init__(self, path: str, cpu_path: str | None, files: Files) -> None:
        self.path = path
        self.files = files
        self._cpu_path = cpu_path

    def _write(self, name: str, text: str) -> None:
        with open(f"{self.path}/{name}", "w") as file:
            file.write(text)

    @contextlib.contextmanager
    def doors(self) -> Iterator[tuple[int, ...]]:
        """Descriptors of files through which a process without threads moves itself in, by writing "0" (none in v2). Raises OSError."""
        with contextlib.ExitStack() as opened:
            found: list[int] = []
            for folder in {self.path, self._cpu_path or self.path} if self.files.version == 1 else ():
                found.append(os.open(f"{folder}/tasks", os.O_WRONLY | os.O_CLOEXEC))
                opened.callback(os.close, found[-1])
            yield tuple(found)

    def admit(self, pid: int) -> None:
        """Move a process in where it cannot do so itself (`doors`). Raises OSError where it is gone."""
        self._write("cgroup.procs", str(pid))

    def is_empty(self) -> bool:
        """Whether no process is in it."""
        try:
            with open(f"{self.path}/cgroup.procs") as file:
                return not file.read(1)
        except OSError:
            return True  # somebody removed it

    def held_bytes(self) -> int:
        """What is charged to it, pages of files on a disk aside, which the kernel takes back by itself. Raises OSError."""
        with open(f"{self.path}/{self.files.usage}") as usage, open(f"{self.path}/memory.stat") as stat:
            charged, counts = int(usage.read()), {key: value for key, _, value in (line.partition(" ") for line in stat)}
        return charged - int(counts.get("cache") or counts.get("file") or 0) + int(counts.get("shmem") or 0)

    def limit(self, memory_bytes: int) -> int:
        """Bound what is charged from now on to `memory_bytes` above what is in use; the bound in bytes. Raises OSError."""
        with open(f"{self.path}/{self.files.usage}") as file:
            bound = int(file.read()) + memory_bytes
        self._write(self.files.limit, str(bound))
        return bound

    def unlimit(self) -> None:
        """Take the bound away, so that the next program can be loaded. Raises OSError."""
        self._write(self.files.limit, "-1" if self.files.version == 1 else "max")

    def open_counters(self) -> tuple[int, ...]:
        """Descriptors of the peak (reset by writing where the kernel can), the out-of-memory counter, statistics, CPU time if counted.

        Raises:
            OSError: the kernel lacks one of the first two.
        """
        found = [self._open_peak()]
        found += [os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in (self.files.events, "memory.stat")]
        if self._cpu_path is not None:
            found.append(os.open(f"{self._cpu_path}/{self.files.cpu}", os.O_RDONLY | os.O_CLOEXEC))
        return tuple(found)

    def _open_peak(self) -> int:
        for name, mode in ((self.files.peak, os.O_RDWR), (self.files.peak, os.O_RDONLY)):
            try:
                return os.open(f"{self.path}/{name}", mode | os.O_CLOEXEC)
            except OSError:
                continue  # before Linux 6.12 the peak of version 2 cannot be reset, before 5.19 there is none
        return os.open(f"{self.path}/{self.files.usage}", os.O_RDONLY | os.O_CLOEXEC)

    def oom_kills(self) -> int:
        """How often the kernel killed for memory in here."""
        with open(f"{self.path}/{self.files.events}") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0


def _own_path(controller: str) -> str:
    return _own(controller)[1]


def _own(controller: str) -> tuple[str, str]:
    """(name of the hierarchy that has the controller, our own cgroup in it); "" names version 2."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if controller in names.split(",") or (controller == "" and names == ""):
                return names, path
    return "", "/"


def _cpu_base() -> str | None:
    """Where version 1 lets us count CPU time, if anywhere."""
    names, path = _own("cpuacct")
    for base in (f"{_ROOT}/{names}{path}".rstrip("/"), f"{_ROOT}/{names}"):
        if names and os.path.exists(f"{base}/{_V1.cpu}"):
            return base
    return None


def _candidates() -> list[tuple[str, Files]]:
    found = []
    for base in (f"{_ROOT}/memory{_own_path('memory')}", f"{_ROOT}/memory"):
        if os.path.exists(f"{base}/{_V1.limit}"):
            found.append((base, _V1))
    own = _own_path("")
    for root in (_ROOT, f"{_ROOT}/unified"):
        base = root + ("" if own == "/" else own)
        try:
            with open(f"{base}/cgroup.subtree_control") as file:
                if "memory" in file.read().split():
                    found.append((base, _V2))
        except OSError:
            continue
    return found


class Cgroups:
    """The folder of this service's cells."""

    def __init__(self, path: str, cpu_path: str | None, files: Files) -> None:
        self.path = path
        self.files = files
        self._cpu_path = cpu_path
        self._free: list[CellCgroup] = []
        self._numbers = itertools.count(1)
        # Held while we live: a pid would mean nothing to services in other pid namespaces that share the folder.
        self._locks: list[int] = []

    @classmethod
    def open(cls, delegated: str | None = None) -> Cgroups | None:
        """Make our folder in the first place that lets us, after sweeping what dead services left; None where none does.

        `delegated` is a folder that somebody made for us: a cgroup of version 2, or `memory` and `cpuacct` of version 1 in there. Then it
        is used, and nothing else.

        Raises:
            SandboxUnavailable: the machine's fault: `delegated` is of no use.
        """
        if delegated is not None:
            return _delegated(delegated)
        for base, files in _candidates():
            with contextlib.suppress(OSError):
                return cls.make(base, base if files.version == 2 else _cpu_base(), files)
        return None

    @classmethod
    def make(cls, base: str, cpu_base: str | None, files: Files, *, cpu_needed: bool = False) -> Cgroups:
        """Our folder in `base`, and where CPU time is counted elsewhere, one there. Raises OSError."""
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        found = cls(f"{base}/{name}", None, files)
        try:
            _sweep_around(base)
            found._locks.append(_claim(found.path))
            if files.version == 2:
                found._cpu_path = found.path
                with open(f"{found.path}/cgroup.subtree_control", "w") as file:
                    file.write("+memory")
            elif cpu_base is not None:
                found._claim_cpu(cpu_base, name, needed=cpu_needed)
            probe = found.take()
            probe.unlimit()
            for descriptor in probe.open_counters():
                os.close(descriptor)
            found.give_back(probe)
        except OSError:
            found.close()
            raise
        return found

    def _claim_cpu(self, base: str, name: str, *, needed: bool) -> None:
        try:
            _sweep_around(base)
            self._locks.append(_claim(f"{base}/{name}"))
        except OSError:
            if needed:
                raise
            return
        self._cpu_path = f"{base}/{name}"

    def give_back(self, group: CellCgroup) -> None:
        """Take back a cgroup whose processes are gone."""
        self._free.append(group)

    def take(self) -> CellCgroup:
        """An empty cgroup without a limit; for any thread. Raises OSError.

        One whose last program's memory is still being freed waits: what is freed later would be room above the next one's bound.
        """
        waiting: list[CellCgroup] = []
        try:
            while (group := self._pop()) is not None:
                try:
                    if group.held_bytes() > _LINGERING_BYTES:
                        waiting.append(group)
                        continue
                    group.unlimit()
                except OSError:
                    continue  # somebody removed it
                return group
        finally:
            self._free.extend(waiting)
        if not self._locks:
            raise FileNotFoundError(f"{self.path} is closed")
        name = f"cell{next(self._numbers)}"
        path = f"{self.path}/{name}"
        cpu_path = f"{self._cpu_path}/{name}" if self._cpu_path is not None else None
        os.makedirs(path, exist_ok=True)
        if cpu_path is not None:
            os.makedirs(cpu_path, exist_ok=True)
        return CellCgroup(path, cpu_path, self.files)

    def _pop(self) -> CellCgroup | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def close(self) -> None:
        """Kill what is left inside and remove the folders."""
        for lock in self._locks:
            os.close(lock)
        self._locks = []
        _remove(self.path)
        if self._cpu_path is not None:
            _remove(self._cpu_path)


def _delegated(folder: str) -> Cgroups:
    """Our folder in the one that was made for us, once it has been tried. Raises SandboxUnavailable."""
    second = os.path.exists(f"{folder}/cgroup.subtree_control")
    bases = (folder, None, _V2) if second else (f"{folder}/memory", f"{folder}/cpuacct", _V1)
    try:
        found = Cgroups.make(*bases, cpu_needed=True)
    except OSError as error:
        raise SandboxUnavailable(
            f"no cgroup can be made in {folder} ({error}): deploy/delegate-cgroup prepares one, docs/deploy.md"
        ) from error
    try:
        group = found.take()
        _try(group)
    except OSError as error:
        found.close()
        why = "a container must be started below it, in the host's cgroup namespace" if second else "it is not this user's"
        raise SandboxUnavailable(f"no process can be moved into {folder} ({error}): {why}, docs/deploy.md") from error
    found.give_back(group)
    return found


def _try(group: CellCgroup) -> None:
    """Move a process in, as cells are. Raises OSError."""
    with group.doors() as doors:
        command = ["/bin/sh", "-c", _ENTER, "sh", *map(str, doors)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=doors) as process:
            if not doors:
                group.admit(process.pid)
    if process.returncode:
        raise PermissionError("a process of ours may not move itself in")


def _claim(folder: str) -> int:
    """Make a folder; the descriptor that holds its lock. Whoever sweeps just now may take it for one that was left. Raises OSError."""
    for _ in range(_CLAIMS):
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            descriptor = _lock(folder)
            if _is_at(descriptor, folder):
                return descriptor
            os.close(descriptor)
        time.sleep(_CLAIM_S)
    raise BlockingIOError(f"{folder} is swept again and again")


def _is_at(descriptor: int, folder: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except FileNotFoundError:
        return False


def _lock(folder: str) -> int:
    """A descriptor that holds the folder's lock. Raises OSError where somebody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep_around(base: str) -> None:
    """Sweep our own cgroup and those beside it: the service before us may have been in another session or scope.

    One that cannot be looked at, or has just gone, is left: it says nothing about what we may do in ours.
    """
    parent = os.path.dirname(base)
    folders = [base]
    with contextlib.suppress(OSError):
        if parent.startswith(_ROOT + "/"):
            folders += [entry.path for entry in os.scandir(parent) if entry.is_dir() and entry.path != base][:_NEIGHBOURS]
    for folder in folders:
        with contextlib.suppress(OSError):
            sweep(folder)


def sweep(base: str) -> int:
    """Kill and remove what services that are gone left in `base`; how many there were."""
    count = 0
    for name in os.listdir(base):
        if not name.startswith(_PREFIX):
            continue
        try:
            lock = _lock(f"{base}/{name}")
        except OSError:
            continue  # its owner lives, or somebody else sweeps it
        try:
            _remove(f"{base}/{name}")  # under the lock: its owner may just be about to take it
        finally:
            os.close(lock)
        count += 1
    return count


def _remove(path: str) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            with open(f"{folder}/cgroup.procs") as file:
                for pid in map(int, file.read().split()):
                    if pid > 0:  # 0 stands for a process of another pid namespace
                        os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
        try:
            os.rmdir(folder)
        except OSError:
            continue  # its processes are still dying; the next start sweeps it
