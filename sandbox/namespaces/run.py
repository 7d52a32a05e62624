"""One cell's life in one slot, seen from the service: load a program, hand over tests, read how each ended, kill."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sandbox.interface import Job, Limits, RunnerLost, RunResult, Status, TestInput
from sandbox.namespaces.process import Cell
from sandbox.namespaces.wire import CPU_STOP, DIRTY, MEMORY_STOP, NOT_READY, OOM, OUTPUT_STOP, REPLY, REQUEST, WALL_STOP

STDERR_BYTES = 4096
DIAGNOSTIC_BYTES = 65536
LOAD_SLACK_BYTES = 268_435_456  # what a supervisor may use while it loads a program, beyond the program's own limit
_OUTPUT_SLACK_BYTES = 8_388_608  # collected output is charged to the writer, but not to its limit; so is its standard error
_DATA_HEADROOM_BYTES = 67_108_864  # what a warm interpreter has mapped already, where RLIMIT_DATA bounds memory
_PIPELINE = 4  # tests handed over at a time: the next starts while the last is looked at
_LOOK_S = 0.2  # how often a program that is being loaded is looked at
_CELL_DIED = 1 << 16
_STARVED_SHARE = 0.05  # of the wall time without a core, above which a stop by the wall clock says more about the machine

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


class CellRun:
    """One cell's life in one slot: load a program, run its tests, be killed."""

    def __init__(self, cell: Cell, slot: Slot) -> None:
        self._cell = cell
        self._slot = slot
        self._counters: tuple[int, ...] = ()
        self._oom_kills = 0
        self._running = 0  # tests handed over whose end the supervisor has not told

    async def load(self, kind: str, program: bytes | Binary, file: str, command: tuple[str, ...], job: Job) -> str | None:
        """Hand over the program; the text of the error where it cannot be loaded (its own fault). Raises RunnerLost."""
        try:
            return await self._load(kind, program, file, command, job)
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
        self._cell.channel.send(json.dumps(order).encode(), [whole.descriptor, *self._counters])
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
            group.limit(limits.memory_bytes + uncharged + _OUTPUT_SLACK_BYTES)
        return None if error is None else str(error)

    async def _loaded(self, cpu_s: float) -> bytes:
        """The supervisor's answer. Raises TimeoutError where it used up its CPU time, or the wall clock's net of 2 * cpu_s + 2 seconds."""
        give_up = time.monotonic() + 2 * cpu_s + 2
        while True:
            try:
                return await self._cell.channel.receive(_LOOK_S)
            except TimeoutError:
                if self._cell.cpu_s() > cpu_s or time.monotonic() > give_up:
                    raise

    async def tests(self, job: Job, first: int, stderr_bytes: int = STDERR_BYTES) -> AsyncGenerator[RunResult, None]:
        """Results from input `first` on, the next test already handed over while one is looked at. Raises RunnerLost."""
        waiting: list[tuple[int, int, int]] = []
        at = first
        try:
            while at < len(job.inputs) or waiting:
                while at < len(job.inputs) and len(waiting) < _PIPELINE:
                    waiting.append(self._submit(job, at))
                    at += 1
                index, output, errors = waiting[0]
                reply = await self.reply(job, index)
                result = run_result(job.limits, job.inputs[index], reply, output, errors, stderr_bytes)
                for descriptor in waiting.pop(0)[1:]:
                    os.close(descriptor)
                yield result
                if reply[1] & (_CELL_DIED | DIRTY):
                    return
        finally:
            for _, output, errors in waiting:
                os.close(output)
                os.close(errors)

    def _submit(self, job: Job, index: int) -> tuple[int, int, int]:
        stdin = memory_file(job.inputs[index].stdin)
        output, errors = os.memfd_create("stdout", os.MFD_CLOEXEC), os.memfd_create("stderr", os.MFD_CLOEXEC)
        files = memory_file(b"".join(job.inputs[index].files.values())) if job.inputs[index].files else None
        try:
            self.hand_over(job, index, (stdin, output, errors) if files is None else (stdin, output, errors, files))
        except RunnerLost:
            os.close(output)
            os.close(errors)
            raise
        finally:
            os.close(stdin)
            if files is not None:
                os.close(files)
        return index, output, errors

    def hand_over(self, job: Job, index: int, descriptors: tuple[int, ...]) -> None:
        """Start a test on these descriptors, or queue it behind the one that runs. Raises RunnerLost."""
        limits = job.limits
        bounds = (limits.processes, limits.disk_bytes, limits.disk_inodes)
        request = REQUEST.pack(index, limits.cpu_s, limits.net_s, limits.memory_bytes, job.inputs[index].output_bytes, *bounds)
        if job.inputs[index].files:
            request += json.dumps([(name, len(data)) for name, data in job.inputs[index].files.items()]).encode()
        self._running += 1
        self._cell.channel.send(request, list(descriptors))

    async def reply(self, job: Job, index: int) -> Reply:
        """What the supervisor says of a test's end. Raises RunnerLost."""
        group = self._cell.group
        try:
            reply = REPLY.unpack(await self._cell.channel.receive(job.limits.net_s + 60))
        except TimeoutError as error:
            raise RunnerLost("the supervisor does not answer") from error
        except RunnerLost:
            if group is not None and group.oom_kills() > self._oom_kills:
                return index, OOM | _CELL_DIED, signal.SIGKILL, 0.0, 0.0, 0.0, 1.0, job.limits.memory_bytes
            raise
        self._running -= 1
        if reply[0] != index:
            raise RunnerLost("the supervisor answered for another test")
        if reply[1] & NOT_READY and not reply[1] & OOM:
            raise RunnerLost("the box could not be made")
        return reply

    async def close(self) -> None:
        """Kill the cell, and wait until nothing is left of a test that was running; an idle cell goes while the next job starts."""
        for descriptor in self._counters:
            os.close(descriptor)
        self._counters = ()
        self._cell.close()
        if self._running:
            await self._cell.gone()


def run_result(limits: Limits, test: TestInput, reply: Reply, output: int, errors: int, stderr_bytes: int) -> RunResult:
    """The result that a supervisor's reply and what the program left in its files make together."""
    index, flags, status, cpu_s, wall_s, waited_s, slowdown, peak = reply
    size = os.fstat(output).st_size
    stdout = os.pread(output, min(size, test.output_bytes), 0)
    stderr = os.pread(errors, stderr_bytes, 0)
    peak = max(0, peak - sum(os.fstat(file).st_blocks for file in (output, errors)) * 512 - _size(test))
    exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    verdict = _status(limits, flags, exit_code, number, cpu_s / slowdown, peak, size > test.output_bytes, stderr)
    return RunResult(index, verdict, stdout, stderr, exit_code, number, cpu_s, wall_s, peak, waited_s)


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


def starved(result: RunResult, limits: Limits) -> bool:
    """Whether the wall clock stopped a program that lacked a core, and not one that slept."""
    return result.cpu_s < limits.cpu_s and result.wall_s >= limits.net_s and result.waited_s >= _STARVED_SHARE * result.wall_s


def memory_file(data: bytes) -> int:
    """A descriptor, at its start, of an anonymous file that holds `data`."""
    descriptor = os.memfd_create("data", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
