"""What a cell's tests use, counted by the kernel where a cgroup is delegated and by looking at /proc where none is. Runs in the cell."""

from __future__ import annotations

import ctypes
import os
import resource
import time

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHARED_MATTERS_BYTES = 32 << 20  # looking at each page's sharers takes longer than a tick where there are many
_LINGERING_BYTES = 8 << 20  # more than this above the start, and the last test's memory is still being freed
_LINGER_S = 0.05
_SPINS, _BASELINE_SPINS = 10_000, 40  # a quarter of a millisecond each
_NOISE, _LARGEST_SLOWDOWN = 1.1, 2.0
_NOTICEABLE_CPU_S = 0.02  # below this the supervisor's own share blurs what the cgroup says


class State(ctypes.Structure):
    """`struct accounts` of launch.c: four descriptors (-1 for none), whether the peak can be reset, and what was read last."""

    _fields_ = (
        ("peak", ctypes.c_int32),
        ("events", ctypes.c_int32),
        ("stat", ctypes.c_int32),
        ("cpu", ctypes.c_int32),
        ("resettable", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("start_bytes", ctypes.c_int64),  # in use before the first test; -1 before it was looked at
        ("start_file_bytes", ctypes.c_int64),  # of them, pages of files on a disk
        ("highest", ctypes.c_int64),
        ("kills", ctypes.c_int64),
        ("cpu_ns", ctypes.c_int64),
        ("own_ns", ctypes.c_int64),
    )


class Accounts:
    """Descriptors of cgroup files that the service opened: peak (reset by writing), out-of-memory counter, memory statistics, CPU counter.

    The last, or all of them, may be missing.
    """

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        peak, events, stat, cpu = (*descriptors, -1, -1, -1, -1)[:4]
        self.state = State(peak, events, stat, cpu, peak >= 0 and _can_reset(peak), start_bytes=-1)
        self.state.kills = self._oom_kills()

    @property
    def memory(self) -> bool:
        """Whether the kernel counts and bounds the memory of the whole tree."""
        return bool(self.state.peak >= 0)

    @property
    def cpu(self) -> bool:
        """Whether the kernel counts the CPU time of the whole tree, of processes included that nobody waits for."""
        return bool(self.state.cpu >= 0)

    def begin(self) -> None:
        """Start a test's account, once what the last test held is freed (the kernel does that in its own time)."""
        if self.memory:
            self._settle()
        if self.cpu:
            self.state.cpu_ns, self.state.own_ns = self._total_cpu_ns(), time.process_time_ns()

    def _settle(self) -> None:
        state, now = self.state, self._reset()
        if state.start_bytes < 0:
            state.start_bytes = state.highest = now
            state.start_file_bytes = self._file_bytes()
        if not state.resettable:
            return
        give_up = time.monotonic() + _LINGER_S
        while now > state.start_bytes + _LINGERING_BYTES:
            if time.monotonic() > give_up:
                state.start_bytes = now  # it stays: the supervisor's own, then
                return
            time.sleep(0.001)
            now = self._reset()

    def used_cpu_s(self, waited_for_s: float) -> float:
        """CPU seconds of the test, at least `waited_for_s`, which its parent learned by waiting."""
        if not self.cpu:
            return waited_for_s
        own_ns = time.process_time_ns() - self.state.own_ns
        total: float = (self._total_cpu_ns() - self.state.cpu_ns - own_ns) / 1e9
        return total if total > waited_for_s + _NOTICEABLE_CPU_S else waited_for_s

    def used_memory(self, limit_bytes: int) -> tuple[int, bool]:
        """(peak bytes above the start, whether the kernel killed for memory).

        Above the limit, pages of files do not count: whoever reads a file first is charged for it, and the kernel can take them back.
        """
        if not self.memory:
            return 0, False
        state = self.state
        kills, before = self._oom_kills(), state.kills
        state.kills = kills
        peak = int(os.pread(state.peak, 32, 0))
        if not state.resettable:  # the peak of all tests so far: it tells of this one only where it rose
            peak, state.highest = (peak if peak > state.highest else 0), max(peak, state.highest)
        peak -= max(0, state.start_bytes)
        if peak > limit_bytes and kills == before:
            peak -= max(0, self._file_bytes() - state.start_file_bytes)
        return max(0, peak), kills > before

    def set_base(self, *, forked: bool) -> None:
        """Where nothing counts memory: what a test has from the start, before any is forked. One that executes a program has nothing."""
        if not self.memory:
            with open("/proc/self/statm", "rb") as file:
                _, resident, shared = map(int, file.read().split()[:3])
            self.state.start_bytes = (resident - shared) * _PAGE if forked else 0

    def resident_peak(self, largest_bytes: int) -> int:
        """Peak bytes of a test above its start by what the kernel says of its largest process, once that is more than we ever had."""
        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return max(0, largest_bytes - self.state.start_bytes) if largest_bytes > ours else 0

    def _reset(self) -> int:
        """Forget the peak; the bytes in use now."""
        if self.state.resettable:
            os.pwrite(self.state.peak, b"0", 0)
        return int(os.pread(self.state.peak, 32, 0))

    def _total_cpu_ns(self) -> int:
        text = os.pread(self.state.cpu, 64, 0)  # `usage_usec N` of version 2, or nanoseconds of version 1
        return int(text.split()[1]) * 1000 if text.startswith(b"usage_usec") else int(text)

    def _oom_kills(self) -> int:
        return _number_in(self.state.events, b"oom_kill ") if self.state.events >= 0 else 0

    def _file_bytes(self) -> int:
        stat = self.state.stat
        return (_number_in(stat, b"cache ") or _number_in(stat, b"file ")) - _number_in(stat, b"shmem ")


def _number_in(descriptor: int, key: bytes) -> int:
    """The number behind a key at the beginning of a line; 0 where there is none."""
    for line in os.pread(descriptor, 1024, 0).split(b"\n"):
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def _can_reset(peak: int) -> bool:
    try:
        os.pwrite(peak, b"0", 0)
    except OSError:
        return False
    return True


def tree() -> tuple[float, int]:
    """(CPU seconds, resident bytes) of everything in this pid namespace but its init, this process.

    Processes that were forked from one another share most of their pages: these count once, where they could matter.
    """
    cpu_s, resident, count = 0.0, 0, 0
    for fields in _each("stat"):
        cpu_s += sum(map(int, fields[11:15])) / _CLOCK_TICKS
        resident += int(fields[21]) * _PAGE
        count += 1
    return cpu_s, resident if count < 2 or resident < _SHARED_MATTERS_BYTES else _proportional_bytes()


def _proportional_bytes() -> int:
    """Bytes of the tree, a page that several processes share counted in parts; where the kernel does not say, all of a process's pages."""
    found = 0
    for name in _pids():
        try:
            with open(f"/proc/{name}/smaps_rollup", "rb") as file:
                found += next(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (OSError, StopIteration):
            found += _resident_bytes(name)
    return found


def _resident_bytes(name: str) -> int:
    try:
        with open(f"/proc/{name}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def waited_s() -> float:
    """Seconds that the processes of this pid namespace were ready to run and had no core; a long time where the kernel does not say."""
    found = 0.0
    for name in _pids():
        try:
            with open(f"/proc/{name}/schedstat", "rb") as file:
                found += int(file.read().split()[1]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            if not os.path.exists("/proc/1/schedstat"):
                return 1e9
    return found


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _each(file_name: str) -> list[list[bytes]]:
    found = []
    for name in _pids():
        try:
            with open(f"/proc/{name}/{file_name}", "rb") as file:
                found.append(file.read().rpartition(b")")[2].split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Speed:
    """How much slower the machine is now than it can be: a loaded neighbour on the same core makes every second of CPU time worth less.

    A fixed loop is timed by its own CPU time: at the zygote's start (`best_s`), and every tenth of a second while a test runs.
    """

    def __init__(self, best_s: float | None = None) -> None:
        self._best_s = min(_spin_s() for _ in range(_BASELINE_SPINS)) if best_s is None else best_s
        self._total_s, self._count = 0.0, 0

    def begin(self) -> Speed:
        """A measurement for a new test."""
        return Speed(self._best_s)

    def look(self) -> None:
        """Time the loop once more."""
        self._total_s += _spin_s()
        self._count += 1

    @property
    def slowdown(self) -> float:
        """The mean of what was seen, in [1, 2]; 1.0 where it is within the noise of measuring."""
        if not self._count:
            return 1.0
        found = self._total_s / self._count / self._best_s
        return 1.0 if found < _NOISE else min(found, _LARGEST_SLOWDOWN)


def _spin_s() -> float:
    """CPU seconds of a fixed loop, the least of three."""
    found = []
    for _ in range(3):
        started = time.thread_time()
        for _ in range(_SPINS):
            pass
        found.append(time.thread_time() - started)
    return min(found)
