"""One cell's life in one slot, seen from the service: load a program, hand over tests, read how each ended, kill."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple

from sandbox.interface import Job, Limits, RunnerLost, RunResult, Status, TestInput
from sandbox.namespaces.process import Cell
from sandbox.namespaces.wire import (
    CPU_STOP,
    DIRTY,
    IN_FILES,
    INPUT_BYTES,
    MEMORY_STOP,
    NOT_READY,
    OOM,
    ORDER_BYTES,
    ORDER_IN_FILE,
    OUTPUT_STOP,
    REPLY,
    REQUEST,
    REQUESTS_BYTES,
    STDERR_BYTES,
    WALL_STOP,
)

DIAGNOSTIC_BYTES = 65536
LOAD_SLACK_BYTES = 268_435_456  # what a supervisor may use while it loads a program, beyond the program's own limit
_OUTPUT_SLACK_BYTES = 8_388_608  # collected output is charged to the writer, but not to its limit; so is its standard error
_DATA_HEADROOM_BYTES = 67_108_864  # what a warm interpreter has mapped already, where RLIMIT_DATA bounds memory
BATCH = 8  # tests handed over in one message
_AHEAD = BATCH + 4  # tests handed over, below which more are: a whole message is left when the replies to one arrive together
_LOADING_NET = 4  # times the CPU limit, in seconds of wall clock
_LOOK_S = 0.2  # how often a program that is being loaded is looked at
_CELL_DIED = 1 << 16
_PAGE = 4096
_ERRORS_CHARGED_BYTES = 1_048_576  # of standard error, that do not count as the program's memory
_NEAR_BYTES = 1_048_576  # of its bound, which is there before a program's own memory has it killed
_MACHINES_MEMORY = "a program was killed for memory below its own bound: the machine, the container or the pod has too little"

Reply = tuple[int, int, int, float, float, float, float, int]


@dataclass(frozen=True, slots=True)
class Slot:
    """One place where a job runs: its number, and the core it is pinned to."""

    number: int
    cores: tuple[int, ...]


class Binary:
    """A program's bytes in an anonymous file, handed to cell after cell without a copy of ours."""

    def __init__(self, data: bytes) -> None:
        self.descriptor = memory_file(data)
        self.size = len(data)

    def __del__(self) -> None:
        os.close(self.descriptor)


class Output(NamedTuple):
    """What a test wrote: the head of its standard output and the size of the whole, the head of its standard error, the memory of both."""

    stdout: bytes
    stdout_bytes: int
    stderr: bytes
    charged_bytes: int


_NO_OUTPUT = Output(b"", 0, b"", 0)


class _Running(NamedTuple):
    """A test that was handed over: its number, and the files for its output where they are ours."""

    number: int
    files: tuple[int, ...]

    def close(self) -> None:
        for descriptor in self.files:
            os.close(descriptor)


class UnclearDeath(RunnerLost):
    """The memory of one of several tests took the cell down, and nobody knows which: each of them has to be run by itself."""


class CellRun:
    """One cell's life in one slot: load a program, run its tests, be killed."""

    def __init__(self, cell: Cell, slot: Slot) -> None:
        self._cell = cell
        self._slot = slot
        self._counters: tuple[int, ...] = ()
        self._oom_kills = self._bound_bytes = 0
        self._running = 0  # tests handed over whose end the supervisor has not told
        self._replies: collections.deque[tuple[Reply, Output | None]] = collections.deque()

    async def load(self, kind: str, program: bytes | Binary, file: str, command: tuple[str, ...], job: Job) -> str | None:
        """Hand over the program; the text of the error where it cannot be loaded (its own fault). Raises RunnerLost."""
        try:
            return await self._load(kind, program, file, command, job)
        except OSError as error:  # a cell that is gone, or no room for descriptors
            raise RunnerLost(f"no program could be handed over: {error}") from error
        finally:
            self._cell.loaded()

    async def _load(self, kind: str, program: bytes | Binary, file: str, command: tuple[str, ...], job: Job) -> str | None:
        group, limits = self._cell.group, job.limits
        if self._slot.cores:
            os.sched_setaffinity(self._cell.pid, self._slot.cores)
        size = program.size if isinstance(program, Binary) else len(program)
        if group is not None:
            group.limit(limits.memory_bytes + 2 * size + LOAD_SLACK_BYTES)
            self._counters = group.open_counters()
        order = {
            "kind": kind, "file": file, "command": command, "arguments": job.arguments, "source_bytes": size, "seed": job.seed,
            "files": [] if isinstance(program, Binary) else [(name, len(data)) for name, data in job.files.items()],
            "data_bytes": -1 if group is not None else limits.memory_bytes + _DATA_HEADROOM_BYTES,
        }  # fmt: skip
        whole = program if isinstance(program, Binary) else Binary(b"".join((program, *job.files.values())))
        text = json.dumps(order).encode()
        if len(text) <= ORDER_BYTES:
            self._cell.channel.send(text, [whole.descriptor, *self._counters])
        else:
            apart = Binary(text)
            self._cell.channel.send(ORDER_IN_FILE, [apart.descriptor, whole.descriptor, *self._counters])
        self._oom_kills = kills = group.oom_kills() if group is not None else 0
        try:
            error = json.loads(await self._loaded(limits.compile_s))["error"]
        except TimeoutError:
            return f"compiling took longer than {limits.compile_s:g} s"
        except RunnerLost:
            await self._cell.gone()
            if group is not None and group.oom_kills() > kills:
                return "compiling took too much memory"
            status = self._cell.ended.result() if self._cell.ended.done() else signal.SIGKILL
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
                return f"the compiler died of signal {os.WTERMSIG(status)}"
            raise
        except (ValueError, KeyError, TypeError) as broken:
            raise RunnerLost("the supervisor's answer cannot be read") from broken
        if group is not None:
            uncharged = max(test.output_bytes + _size(test) for test in job.inputs)
            self._bound_bytes = group.limit(limits.memory_bytes + uncharged + _OUTPUT_SLACK_BYTES)
        return None if error is None else str(error)

    async def _loaded(self, cpu_s: float) -> bytes:
        """The supervisor's answer. Raises TimeoutError where it used up its CPU time, RunnerLost where it did not in many times that."""
        give_up = time.monotonic() + _LOADING_NET * cpu_s + 2
        while True:
            try:
                return (await self._cell.channel.receive(_LOOK_S))[0]
            except TimeoutError:
                if self._cell.cpu_s() > cpu_s:
                    raise
                if time.monotonic() > give_up:  # nothing in a source can make its compilation wait: it lacked a core
                    raise RunnerLost("a program was not loaded in time: the machine is too busy") from None

    async def tests(self, job: Job, first: int, stderr_bytes: int = STDERR_BYTES, batch: int = BATCH) -> AsyncGenerator[RunResult, None]:
        """Results from input `first` on, the next tests already handed over while one is looked at, `batch` in a message.

        Raises:
            UnclearDeath: the program's memory took the cell down; not where `batch` is 1.
            RunnerLost: the cell is gone, by no fault of the program's.
        """
        waiting: collections.deque[_Running] = collections.deque()
        at = first
        try:
            while at < len(job.inputs) or waiting:
                while at < len(job.inputs) and len(waiting) < _AHEAD:
                    count = _fitting(job.inputs[at : at + batch]) if waiting else 1
                    waiting.extend(self._submit(job, at, count))
                    at += count
                test = job.inputs[waiting[0].number]
                reply, inline = await self._answer(job, waiting[0].number, exact=batch == 1)
                output = inline or _read_output(waiting[0].files, test.output_bytes, stderr_bytes)
                waiting.popleft().close()
                yield run_result(job.limits, test, reply, output, stderr_bytes)
                if reply[1] & (_CELL_DIED | DIRTY):
                    return
        finally:
            for running in waiting:
                running.close()

    def _submit(self, job: Job, first: int, count: int) -> list[_Running]:
        """Hand over `count` tests from `first` on, in one message. Raises RunnerLost."""
        tests = job.inputs[first : first + count]
        if _travels_in_message(tests[0]):
            parts: list[bytes] = []
            for index, test in enumerate(tests, first):
                parts += (_request(job, index, len(test.stdin)), test.stdin)
            self._send(b"".join(parts), (), count)
            return [_Running(index, ()) for index in range(first, first + count)]
        return [self._submit_in_files(job, first)]

    def _submit_in_files(self, job: Job, index: int) -> _Running:
        test = job.inputs[index]
        with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
            try:
                files, sources = [], []
                for name in ("stdout", "stderr"):
                    files.append(os.memfd_create(name, os.MFD_CLOEXEC))
                    kept.callback(os.close, files[-1])
                for content in (test.stdin, *([b"".join(test.files.values())] if test.files else [])):
                    sources.append(memory_file(content))
                    given.callback(os.close, sources[-1])
            except OSError as error:
                raise RunnerLost(f"no file for a test: {error}") from error
            self.hand_over(job, index, (sources[0], *files, *sources[1:]))
            kept.pop_all()
        return _Running(index, tuple(files))

    def hand_over(self, job: Job, index: int, descriptors: tuple[int, ...]) -> None:
        """Start a test on these descriptors, or queue it behind the one that runs. Raises RunnerLost."""
        files = job.inputs[index].files
        names = json.dumps([(name, len(data)) for name, data in files.items()]).encode() if files else b""
        self._send(_request(job, index, IN_FILES) + names, descriptors, 1)

    def _send(self, message: bytes, descriptors: tuple[int, ...], count: int) -> None:
        self._running += count
        self._cell.channel.send(message, descriptors)

    async def reply(self, job: Job, index: int) -> Reply:
        """What the supervisor says of the end of a test that was handed over on descriptors. Raises RunnerLost."""
        return (await self._answer(job, index))[0]

    async def _answer(self, job: Job, index: int, *, exact: bool = True) -> tuple[Reply, Output | None]:
        """The reply, and the output if the supervisor sent it. `exact`: it holds no reply back, so that a death is that of this test."""
        group = self._cell.group
        if not self._replies:
            try:
                message, descriptors = await self._cell.channel.receive(job.limits.net_s + 60)
            except TimeoutError as error:
                raise RunnerLost("the supervisor does not answer") from error
            except RunnerLost:
                if group is None or group.oom_kills() <= self._oom_kills:
                    raise
                if int(os.pread(self._counters[0], 32, 0)) < self._bound_bytes - _NEAR_BYTES:
                    raise RunnerLost(_MACHINES_MEMORY) from None
                if not exact and self._running > 1:
                    raise UnclearDeath("a test's memory took the cell down") from None
                return (index, OOM | _CELL_DIED, signal.SIGKILL, 0.0, 0.0, 0.0, 1.0, job.limits.memory_bytes), _NO_OUTPUT
            self._take_replies(message, descriptors, job.inputs[index].output_bytes)
        reply, output = self._replies.popleft()
        if reply[0] != index:
            raise RunnerLost("the supervisor answered for another test")
        if reply[1] & NOT_READY and not reply[1] & OOM:
            raise RunnerLost("the box could not be made")
        if reply[1] & OOM and 0 < reply[7] < job.limits.memory_bytes:
            raise RunnerLost(_MACHINES_MEMORY)
        return reply, output

    def _take_replies(self, message: bytes, descriptors: tuple[int, ...], output_bytes: int) -> None:
        """Read a message: one or more replies with their outputs, or one whose output is in files, sent with it or ours already."""
        try:
            at = 0
            while at < len(message):
                *fields, stdout_bytes, stderr_bytes = REPLY.unpack_from(message, at)
                at += REPLY.size
                if stdout_bytes == IN_FILES:
                    output = _read_output(descriptors, output_bytes, DIAGNOSTIC_BYTES) if descriptors else None
                else:
                    middle, end = at + stdout_bytes, at + stdout_bytes + stderr_bytes
                    charged = _in_pages(stdout_bytes) + _in_pages(stderr_bytes)
                    output = Output(message[at:middle], stdout_bytes, message[middle:end], charged)
                    at = end
                self._replies.append(((*fields,), output))
                self._running -= 1
        except struct.error as error:
            raise RunnerLost("the supervisor's answer cannot be read") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def close(self) -> None:
        """Kill the cell, and wait until nothing is left of a test that was running; an idle cell goes while the next job starts."""
        for descriptor in self._counters:
            os.close(descriptor)
        self._counters = ()
        self._cell.close()
        if self._running:
            await self._cell.gone()


def _travels_in_message(test: TestInput) -> bool:
    return not test.files and len(test.stdin) <= INPUT_BYTES


def _fitting(tests: tuple[TestInput, ...]) -> int:
    """How many of these go into one message, from the first on; at least one."""
    size = 0
    for count, test in enumerate(tests):
        size += REQUEST.size + len(test.stdin)
        if not _travels_in_message(test) or size > REQUESTS_BYTES:
            return max(1, count)
    return len(tests)


def _request(job: Job, index: int, input_bytes: int) -> bytes:
    limits = job.limits
    bounds = (limits.memory_bytes, job.inputs[index].output_bytes, limits.processes, limits.disk_bytes, limits.disk_inodes)
    return REQUEST.pack(index, input_bytes, limits.cpu_s, limits.net_s, *bounds)


def _in_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _read_output(files: tuple[int, ...], output_bytes: int, stderr_bytes: int) -> Output:
    if len(files) != 2:
        raise RunnerLost("the supervisor's files did not arrive: too many are open")
    output, errors = files
    charged = os.fstat(output).st_blocks * 512 + min(os.fstat(errors).st_blocks * 512, _ERRORS_CHARGED_BYTES)
    size = os.fstat(output).st_size
    return Output(os.pread(output, min(size, output_bytes), 0), size, os.pread(errors, stderr_bytes, 0), charged)


def run_result(limits: Limits, test: TestInput, reply: Reply, output: Output, stderr_bytes: int = STDERR_BYTES) -> RunResult:
    """The result that a supervisor's reply and a program's output make together."""
    index, flags, status, cpu_s, wall_s, waited_s, slowdown, peak = reply
    stderr = output.stderr[:stderr_bytes]
    peak = max(0, peak - output.charged_bytes - _size(test))
    exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    verdict = _status(limits, flags, exit_code, number, cpu_s / slowdown, peak, output.stdout_bytes > test.output_bytes, stderr)
    return RunResult(index, verdict, output.stdout[: test.output_bytes], stderr, exit_code, number, cpu_s, wall_s, peak, waited_s)


def _size(test: TestInput) -> int:
    """Bytes of a test's own files, which are charged to its cgroup and not to its limit."""
    return sum(map(len, test.files.values()))


def _status(
    limits: Limits, flags: int, exit_code: int | None, number: int | None, cpu_s: float, peak: int, flooded: bool, stderr: bytes
) -> Status:
    if flooded or flags & OUTPUT_STOP:
        return Status.OUTPUT_LIMIT_EXCEEDED
    if flags & (OOM | MEMORY_STOP) or peak > limits.memory_bytes:
        return Status.MEMORY_LIMIT_EXCEEDED
    if flags & (CPU_STOP | WALL_STOP) or cpu_s >= limits.cpu_s:
        return Status.TIME_LIMIT_EXCEEDED
    if number == signal.SIGSYS:
        return Status.POLICY_VIOLATION
    if exit_code == 0:
        return Status.FINISHED
    if b"MemoryError" in stderr or b"std::bad_alloc" in stderr:
        return Status.MEMORY_LIMIT_EXCEEDED
    return Status.RUNTIME_ERROR


def memory_file(data: bytes) -> int:
    """A descriptor, at its start, of an anonymous file that holds `data`."""
    descriptor = os.memfd_create("data", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
