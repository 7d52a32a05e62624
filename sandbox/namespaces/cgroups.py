"""Memory and process accounting by cgroup, version 1 or 2, where a folder is delegated to us. Runs in the service.

One cgroup per slot, made at the start and used again by cell after cell, so that none is made on a job's way.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

_PREFIX = "reward-sandbox-"
_ROOT = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Files:
    """Names of the files of one version."""

    version: int
    limit: str
    usage: str
    peak: str
    events: str
    peak_resets: bool


_V1 = Files(1, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", True)
_V2 = Files(2, "memory.max", "memory.current", "memory.peak", "memory.events", True)


class SlotCgroup:
    """The cgroup of one slot."""

    def __init__(self, path: str, files: Files) -> None:
        self.path = path
        self.files = files

    def _write(self, name: str, text: str) -> None:
        with open(f"{self.path}/{name}", "w") as file:
            file.write(text)

    def admit(self, pid: int) -> None:
        """Move a process in. Raises OSError where it is gone."""
        self._write("cgroup.procs", str(pid))

    def limit(self, memory_bytes: int) -> None:
        """Bound what is charged from now on to `memory_bytes` above what is in use. Raises OSError."""
        with open(f"{self.path}/{self.files.usage}") as file:
            used = int(file.read())
        self._write(self.files.limit, str(used + memory_bytes))

    def unlimit(self) -> None:
        """Take the bound away, so that the next program can be loaded. Raises OSError."""
        self._write(self.files.limit, "-1" if self.files.version == 1 else "max")

    def open_counters(self) -> tuple[int, int]:
        """Descriptors of the peak (read, and reset by writing) and of the out-of-memory counter. Raises OSError."""
        peak = os.open(f"{self.path}/{self.files.peak}", os.O_RDWR | os.O_CLOEXEC)
        return peak, os.open(f"{self.path}/{self.files.events}", os.O_RDONLY | os.O_CLOEXEC)

    def oom_kills(self) -> int:
        """How often the kernel killed for memory in here."""
        with open(f"{self.path}/{self.files.events}") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0


def _own_path(controller: str) -> str:
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if controller in names.split(",") or (controller == "" and names == ""):
                return path
    return "/"


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
    """The folder of this service's slots."""

    def __init__(self, path: str, files: Files) -> None:
        self.path = path
        self.files = files

    @classmethod
    def open(cls) -> Cgroups | None:
        """Make our folder in the first place that lets us, after sweeping what dead services left; None where none does."""
        for base, files in _candidates():
            path = f"{base}/{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
            try:
                sweep(base)
                os.makedirs(path, exist_ok=True)
                if files.version == 2:
                    with open(f"{path}/cgroup.subtree_control", "w") as file:
                        file.write("+memory")
                probe = cls(path, files).slot("probe")
                probe.unlimit()
                for descriptor in probe.open_counters():
                    os.close(descriptor)
                os.rmdir(probe.path)
            except OSError:
                _remove(path)
                continue
            return cls(path, files)
        return None

    def slot(self, name: str) -> SlotCgroup:
        """The cgroup of one slot, made if it is not there. Raises OSError."""
        path = f"{self.path}/{name}"
        os.makedirs(path, exist_ok=True)
        return SlotCgroup(path, self.files)

    def close(self) -> None:
        """Kill what is left inside and remove the folder."""
        _remove(self.path)


def sweep(base: str) -> int:
    """Kill and remove what services that are gone left in `base`; how many there were."""
    count = 0
    for name in os.listdir(base):
        owner = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _remove(f"{base}/{name}")
            count += 1
    return count


def _remove(path: str) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            with open(f"{folder}/cgroup.procs") as file:
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
        try:
            os.rmdir(folder)
        except OSError:
            continue  # its processes are still dying; the next start sweeps it
