"""The sandbox's contract: what goes in, what comes out, and whose fault it is. Pure: no I/O, no clock.

A *job* is one program and its inputs. Every backend runs the program once per input, each time from a clean state, and gives one
`RunResult` per input. Expected outputs are no part of a job: whoever compares does so on this side.
"""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


class Status(enum.StrEnum):
    """How one run ended; everything but `finished` is the program's failure."""

    FINISHED = "finished"  # exit code 0 within all limits
    RUNTIME_ERROR = "runtime_error"  # other exit code, or a signal
    TIME_LIMIT_EXCEEDED = "time_limit_exceeded"
    MEMORY_LIMIT_EXCEEDED = "memory_limit_exceeded"
    OUTPUT_LIMIT_EXCEEDED = "output_limit_exceeded"
    POLICY_VIOLATION = "policy_violation"  # killed by the system-call filter
    COMPILE_ERROR = "compile_error"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the whole job tree of one run.

    `cpu_s` means this machine at its best: where a backend finds that loaded neighbours make its cores slower, it may allow up to twice as
    much, so that load turns no right answer wrong. The wall clock is a net: `wall_s`, or 2 * cpu_s + 2 seconds where that is None.
    """

    cpu_s: float = 4.0
    memory_bytes: int = 314_572_800
    compile_s: float = 10.0
    processes: int = 64
    disk_bytes: int = 67_108_864
    disk_inodes: int = 4096
    wall_s: float | None = None

    @property
    def net_s(self) -> float:
        """Seconds of wall clock after which a run is stopped."""
        return 2 * self.cpu_s + 2 if self.wall_s is None else self.wall_s


FILE_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,63}")
MAX_FILES, MAX_FILES_BYTES = 32, 8_388_608
MAX_INPUT_FILES, MAX_INPUT_FILES_BYTES = 4, 268_435_456
MAX_ARGUMENTS, MAX_ARGUMENT_BYTES = 64, 4096
PROGRAM_FILES = frozenset({"main", "main.py", "main.cpp"})


def _check_files(files: Mapping[str, bytes], count: int, total: int) -> None:
    """Refuse names that are more than a name, and too much of anything. Raises ValueError: the caller's fault."""
    if len(files) > count or sum(map(len, files.values())) > total:
        raise ValueError(f"at most {count} files of {total:,} bytes together")
    for name in files:
        if not FILE_NAME.fullmatch(name) or name in PROGRAM_FILES:
            raise ValueError(f"no name for a file: {name[:80]!r}")


@dataclass(frozen=True, slots=True)
class TestInput:
    """One run's standard input, and how many bytes it may write to standard output before it is stopped.

    `files` stand in the working folder before the program starts; they are charged to no limit.

    Raises:
        ValueError: the caller's fault: a name that is not one, or too much.
    """

    __test__ = False

    stdin: bytes
    output_bytes: int = 8_388_608
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_files(self.files, MAX_INPUT_FILES, MAX_INPUT_FILES_BYTES)


@dataclass(frozen=True, slots=True)
class Job:
    """A program, its inputs and its limits. `seed` makes random numbers and hashes repeatable.

    `files` stand read-only beside the source when it is compiled (`#include "x.h"` finds them), and beside a Python program when it runs.
    `arguments` follow the program's name on its command line, the same for every input. `alone` asks for a quiet slot, for a job that the
    wall clock stopped before.

    Raises:
        ValueError: the caller's fault: a name or an argument that is not one, or too much.
    """

    language: str
    source: str
    inputs: tuple[TestInput, ...]
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    alone: bool = False

    def __post_init__(self) -> None:
        _check_files(self.files, MAX_FILES, MAX_FILES_BYTES)
        bad = any("\0" in text or len(text.encode("utf-8", "replace")) > MAX_ARGUMENT_BYTES for text in self.arguments)
        if bad or len(self.arguments) > MAX_ARGUMENTS:
            raise ValueError(f"at most {MAX_ARGUMENTS} arguments of {MAX_ARGUMENT_BYTES:,} bytes without NUL")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run did. `index` is the input's place in the job, None for a compile error.

    `stdout` is whole up to its cap, `stderr` at most its first 4 KiB (a compiler's diagnostics on a compile error). `waited_s` is how long
    its processes were ready to run and had no core, as far as known: looked at where the wall clock stopped it.
    """

    index: int | None
    status: Status
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    signal: int | None = None
    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory_bytes: int = 0
    waited_s: float = 0.0


_STARVED_SHARE = 0.05  # of the wall time without a core, from which on a stop by the wall clock says more about the machine


def starved(result: RunResult, limits: Limits) -> bool:
    """Whether the wall clock stopped a program that lacked a core, and not one that slept."""
    late = result.status is Status.TIME_LIMIT_EXCEEDED and result.wall_s >= limits.net_s
    return late and result.waited_s >= _STARVED_SHARE * result.wall_s


class Session(Protocol):
    """A running program whose standard input and output are one stream to us."""

    async def send(self, data: bytes) -> None:
        """Write to its standard input. Does nothing once it has ended."""
        ...

    async def receive(self) -> bytes:
        """The next bytes of its standard output, b"" once it has ended or has closed it."""
        ...

    async def finish(self) -> RunResult:
        """How it ended, waiting for its end; `stdout` is empty. Raises RunnerLost: ours."""
        ...


class SandboxError(Exception):
    """Base of what is never the program's fault."""


class SandboxUnavailable(SandboxError):
    """The machine's fault: no isolation is possible here. The message says what to set."""


class RunnerLost(SandboxError):
    """Ours: the process that supervises the program died, or was killed, without evidence against the program; run it again."""


class Sandbox(Protocol):
    """A backend."""

    @property
    def languages(self) -> frozenset[str]:
        """Canonical names of the languages that passed their self-test here."""
        ...

    @property
    def slots(self) -> int:
        """How many jobs run at the same time."""
        ...

    async def start(self) -> None:
        """Make ready: start warm processes, run the canary attacks.

        Raises:
            SandboxUnavailable: the machine's fault.
        """
        ...

    def run(self, job: Job) -> AsyncGenerator[RunResult]:
        """One result per input in order, or a single `compile_error`; closing the iterator kills the job.

        Raises:
            SandboxUnavailable: the machine's fault.
            RunnerLost: ours.
        """
        ...

    def talk(self, *jobs: Job) -> AbstractAsyncContextManager[tuple[Session | RunResult, ...]]:
        """Run the first input of each of one or two jobs at the same time, in one slot, each as a session; leaving kills them.

        A job's place holds a `compile_error` where its program does not compile. The first job's limits are those of the slot; the
        wall-clock net of each is its own. Bytes that a program sends are bounded by its input's `output_bytes`.

        Raises:
            SandboxUnavailable: the machine's fault.
            RunnerLost: ours.
        """
        ...

    async def close(self) -> None:
        """Kill everything that was started; nothing survives."""
        ...
