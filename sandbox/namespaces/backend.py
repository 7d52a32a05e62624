"""The embedded backend: boxes made of Linux namespaces, seccomp, rlimits and a cgroup where one is delegated."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from sandbox import languages
from sandbox.interface import Job, Limits, RunnerLost, RunResult, SandboxUnavailable, Status, TestInput
from sandbox.namespaces import mounts, system
from sandbox.namespaces.cgroups import Cgroups, SlotCgroup
from sandbox.namespaces.process import Cell, Zygote, ZygoteConfig
from sandbox.namespaces.wire import CPU_STOP, MEMORY_STOP, NOT_READY, OOM, OUTPUT_STOP, REPLY, REQUEST, WALL_STOP

_STDERR_BYTES = 4096
_DIAGNOSTIC_BYTES = 65536
_BINARY_BYTES = 67_108_864
_COMPILE_MEMORY = 1_073_741_824
_COMPILE_DISK = 268_435_456
_CACHE_BYTES = 268_435_456
_PRELOAD = ("random", "collections", "math", "itertools", "functools", "heapq", "bisect", "re", "string", "typing", "operator", "linecache")


@dataclass(frozen=True, slots=True)
class NamespacesConfig:
    """Settings of the embedded backend. `packages` is a folder of Python packages for candidates; `uid` what root runs boxes as."""

    slots: int = 2
    python: str = "python3"
    packages: str | None = None
    strict: bool = False
    cpp_standard: str = "gnu++20"
    cache_dir: str | None = None
    uid: int = 64_999
    max_memory_bytes: int = 4_294_967_296
    pin: bool = True


@dataclass(frozen=True, slots=True)
class Slot:
    """One place where a job runs: its number, the core it is pinned to, its cgroup."""

    number: int
    cores: tuple[int, ...]
    cgroup: SlotCgroup | None


class NamespacesSandbox:
    """Runs programs in namespaces of this machine; see `sandbox.interface.Sandbox`."""

    def __init__(self, config: NamespacesConfig) -> None:
        self._config = config
        self._languages: frozenset[str] = frozenset()
        self._cgroups: Cgroups | None = None
        self._zygotes: dict[str, Zygote] = {}
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        self._solo = asyncio.Lock()
        self._solo_slot = Slot(-1, (), None)
        self._binaries: OrderedDict[str, bytes] = OrderedDict()
        self._compiler: str | None = None
        self._header = False
        self.notes: dict[str, str] = {}

    @property
    def languages(self) -> frozenset[str]:
        """Canonical names of the languages that passed their self-test."""
        return self._languages

    @property
    def slots(self) -> int:
        """How many jobs run at the same time."""
        return self._config.slots

    @property
    def accounting(self) -> str:
        """How memory is bounded: `cgroup v1`, `cgroup v2` or `rlimit`."""
        return f"cgroup v{self._cgroups.files.version}" if self._cgroups else "rlimit"

    # ---- start and end -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Build the boxes, find the compilers, prove each language. Raises SandboxUnavailable."""
        if not system.supported():
            raise SandboxUnavailable(f"no system-call table for {system.machine()}; x86_64 and aarch64 are known")
        self._cgroups = Cgroups.open()
        if self._cgroups is None and self._config.strict:
            raise SandboxUnavailable("strict: no memory cgroup is delegated to this process, and rlimits alone do not bound a whole job tree")
        self._make_slots()
        try:
            await self._start_zygotes()
            found = [name for name in self._zygote_languages() if await self._works(name)]
        except BaseException:
            await self.close()
            raise
        self._languages = frozenset(found)
        if not found:
            notes = "; ".join(self.notes.values())
            await self.close()
            raise SandboxUnavailable(f"no language passed its self-test: {notes}")

    def _make_slots(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        for number in range(self._config.slots):
            group = self._cgroups.slot(f"slot{number}") if self._cgroups else None
            pinned = (cores[number % len(cores)],) if self._config.pin else ()
            self._free.put_nowait(Slot(number, pinned, group))
        self._solo_slot = Slot(-1, (), self._cgroups.slot("solo") if self._cgroups else None)

    def _zygote_languages(self) -> Iterator[str]:
        yield "python"
        if "compile" in self._zygotes:
            yield "cpp"

    async def _start_zygotes(self) -> None:
        prefix, version, executable = await asyncio.to_thread(_interpreter, self._config.python)
        shown = {path: path for path in mounts.library_folders()}
        shown.update({path: path for path in mounts.interpreter_folders(prefix, version, executable)})
        masked = (f"{prefix}/lib/python{version}/site-packages", f"{prefix}/lib/python{version}/dist-packages")
        packages = None
        if self._config.packages and os.path.isdir(self._config.packages):
            packages = "/runtime/packages"
        stack = self._config.max_memory_bytes
        with_packages = {**shown, packages: os.path.abspath(str(self._config.packages))} if packages else shown
        self._zygotes["python"] = Zygote(ZygoteConfig(executable, with_packages, masked, packages, _PRELOAD, self._config.uid, stack))
        self._zygotes["native"] = Zygote(ZygoteConfig(executable, shown, masked, None, (), self._config.uid, stack))
        await asyncio.gather(*(zygote.start() for zygote in self._zygotes.values()))
        await self._start_compiler(executable, shown, masked)

    async def _start_compiler(self, executable: str, shown: dict[str, str], masked: tuple[str, ...]) -> None:
        compiler = languages.find_compiler()
        if compiler is None:
            self.notes["cpp"] = "g++ is not installed (Debian and Ubuntu: apt-get install g++)"
            return
        self._compiler = compiler
        tools = await asyncio.to_thread(languages.tool_chain, compiler)
        stack = self._config.max_memory_bytes

        def zygote(extra: dict[str, str]) -> Zygote:
            return Zygote(ZygoteConfig(executable, {**shown, **tools, **extra}, masked, None, (), self._config.uid, stack))

        self._zygotes["compile"] = zygote({})
        await self._zygotes["compile"].start()
        folder = await self._precompiled_header(compiler)
        if folder is not None:
            await self._zygotes["compile"].close()
            self._zygotes["compile"] = zygote({languages.HEADER_FOLDER: folder})
            await self._zygotes["compile"].start()
            self._header = True

    async def _precompiled_header(self, compiler: str) -> str | None:
        """The folder that holds the precompiled header for exactly our flags, made in a box where it is not cached yet."""
        command = languages.header_command(compiler, self._config.cpp_standard)
        version = await asyncio.to_thread(languages.compiler_version, compiler)
        key = hashlib.sha256("\0".join((version, *command)).encode()).hexdigest()[:16]
        folder = os.path.join(self._config.cache_dir or _default_cache(), f"pch-{key}")
        target = os.path.join(folder, "bits", "stdc++.h.gch")
        if os.path.exists(target):
            return folder
        source = "#include <bits/stdc++.h>\n"
        result = await self._in_compile_box(command, source, "main.cpp", 60.0, 1 << 29)
        if result.status is not Status.FINISHED:
            self.notes["precompiled header"] = f"could not be made: {result.status} {result.stderr[:200].decode('utf-8', 'replace')}"
            return None
        await asyncio.to_thread(_write_whole, target, result.stdout)
        return folder

    async def _works(self, name: str) -> bool:
        language = languages.LANGUAGES[name]
        job = Job(name, language.self_test, (TestInput(language.self_test_input),))
        result: RunResult | None = None
        self._languages = self._languages | {name}
        async for result in self.run(job):
            break
        if result is not None and result.status is Status.FINISHED and result.stdout == language.self_test_output:
            return True
        self.notes[name] = f"self-test failed: {result.status if result else 'no result'} {result.stderr[:300].decode('utf-8', 'replace') if result else ''}"
        return False

    async def close(self) -> None:
        """Kill every box, zygote and cgroup."""
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes.values()))
        self._zygotes.clear()
        self._languages = frozenset()
        if self._cgroups is not None:
            self._cgroups.close()
            self._cgroups = None

    def describe(self) -> dict[str, str]:
        """What runs here and how it is bounded, for the self-test."""
        return {
            "memory accounting": self.accounting,
            "precompiled header": "in use" if self._header else self.notes.get("precompiled header", "none"),
            **{name: "works" for name in sorted(self._languages)},
            **self.notes,
        }

    # ---- running -----------------------------------------------------------------------------------------------------

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """One result per input, or one `compile_error`; closing the iterator kills the job. Raises SandboxUnavailable, RunnerLost."""
        if job.language not in self._languages:
            raise SandboxUnavailable(f"{job.language} does not run here")
        slot = await self._free.get()
        try:
            program = job.source.encode("utf-8", "replace")
            kind = languages.LANGUAGES[job.language].kind
            if kind == "native":
                compiled = await self._compiled(job.source, job.limits, slot)
                if isinstance(compiled, RunResult):
                    yield compiled
                    return
                program = compiled
            async for result in self._run_tests(job, kind, program, slot):
                if result.status is Status.TIME_LIMIT_EXCEEDED and _starved(result, job.limits):
                    result = await self._again_alone(job, kind, program, result)
                yield result
        finally:
            self._free.put_nowait(slot)

    async def _again_alone(self, job: Job, kind: str, program: bytes, first: RunResult) -> RunResult:
        """A stop by the wall clock with little CPU used says more about the machine: once more, on a quiet slot of its own."""
        assert first.index is not None
        alone = Job(job.language, job.source, (job.inputs[first.index],), job.limits, job.seed)
        async with self._solo:
            async for result in self._run_tests(alone, kind, program, self._solo_slot):
                return RunResult(first.index, *_fields(result)[1:])
        return first

    async def _run_tests(self, job: Job, kind: str, program: bytes, slot: Slot) -> AsyncGenerator[RunResult, None]:
        done = 0
        while done < len(job.inputs):
            cell = await self._zygotes[kind].spawn()
            run = CellRun(cell, slot)
            try:
                failed = await run.load(kind, program, languages.LANGUAGES[job.language].file if kind == "python" else "main", (), job.limits)
                if failed is not None:
                    yield RunResult(None, Status.COMPILE_ERROR, stderr=failed.encode()[:_DIAGNOSTIC_BYTES])
                    return
                async for result in run.tests(job, done):
                    done += 1
                    yield result
            finally:
                await run.close()

    async def _compiled(self, source: str, limits: Limits, slot: Slot) -> bytes | RunResult:
        """The binary, or why there is none."""
        assert self._compiler is not None
        command = languages.compile_command(self._compiler, self._config.cpp_standard, with_header=self._header)
        key = hashlib.sha256("\0".join((*command, source)).encode("utf-8", "replace")).hexdigest()
        cached = self._binaries.get(key)
        if cached is not None:
            self._binaries.move_to_end(key)
            return cached
        result = await self._in_compile_box(command, source, "main.cpp", limits.compile_s, _BINARY_BYTES, slot)
        if result.status is not Status.FINISHED:
            why = result.stderr or f"compiler: {result.status}".encode()
            return RunResult(None, Status.COMPILE_ERROR, stderr=why, cpu_s=result.cpu_s, wall_s=result.wall_s, memory_bytes=result.memory_bytes)
        self._binaries[key] = result.stdout
        while sum(map(len, self._binaries.values())) > _CACHE_BYTES:
            self._binaries.popitem(last=False)
        return result.stdout

    async def _in_compile_box(
        self, command: tuple[str, ...], source: str, file: str, cpu_s: float, output_bytes: int, slot: Slot | None = None
    ) -> RunResult:
        limits = Limits(cpu_s=cpu_s, memory_bytes=_COMPILE_MEMORY, disk_bytes=max(_COMPILE_DISK, output_bytes))
        run = CellRun(await self._zygotes["compile"].spawn(), slot or self._solo_slot)
        try:
            failed = await run.load("compile", source.encode("utf-8", "replace"), file, command, limits)
            if failed is not None:
                raise RunnerLost(failed)
            job = Job("cpp", source, (TestInput(b"", output_bytes),), limits)
            async for result in run.tests(job, 0, _DIAGNOSTIC_BYTES):
                return result
            raise RunnerLost("the compile box gave no result")
        finally:
            await run.close()


class CellRun:
    """One cell's life in one slot: load a program, run its tests, be killed."""

    def __init__(self, cell: Cell, slot: Slot) -> None:
        self._cell = cell
        self._slot = slot
        self._counters: tuple[int, ...] = ()

    async def load(self, kind: str, program: bytes, file: str, command: tuple[str, ...], limits: Limits) -> str | None:
        """Hand over the program; the text of the error where it cannot be loaded (its own fault). Raises RunnerLost."""
        group = self._slot.cgroup
        if self._slot.cores:
            os.sched_setaffinity(self._cell.pid, self._slot.cores)
        if group is not None:
            group.unlimit()
            group.admit(self._cell.pid)
            group.limit(limits.memory_bytes + 2 * len(program) + _COMPILE_DISK)
            self._counters = group.open_counters()
        order = {
            "kind": kind, "file": file, "command": command, "resettable": group is not None and group.files.peak_resets,
            "data_bytes": -1 if group is not None else limits.memory_bytes + _DATA_HEADROOM,
        }  # fmt: skip
        source = memory_file(program)
        try:
            self._cell.channel.send(json.dumps(order).encode(), [source, *self._counters])
        finally:
            os.close(source)
        kills = group.oom_kills() if group is not None else 0
        try:
            answer = await asyncio.wait_for(self._cell.channel.receive(), 2 * limits.compile_s + 2)
        except asyncio.TimeoutError:
            return f"compiling took longer than {limits.compile_s:g} s"
        except RunnerLost:
            await self._cell.gone()
            if group is not None and group.oom_kills() > kills:
                return "compiling took too much memory"
            if self._cell.ended.done() and os.WIFSIGNALED(self._cell.ended.result()) and os.WTERMSIG(self._cell.ended.result()) != signal.SIGKILL:
                return f"the compiler died of signal {os.WTERMSIG(self._cell.ended.result())}"
            raise
        error = json.loads(answer)["error"]
        if group is not None:
            largest = max(0, limits.memory_bytes)
            group.limit(largest + _OUTPUT_SLACK)
        return None if error is None else str(error)

    async def tests(self, job: Job, first: int, stderr_bytes: int = _STDERR_BYTES) -> AsyncGenerator[RunResult, None]:
        """Results from input `first` on, the next test already handed over while one is looked at. Raises RunnerLost."""
        waiting: list[tuple[int, int, int]] = []
        at = first
        try:
            while at < len(job.inputs) or waiting:
                while at < len(job.inputs) and len(waiting) < 2:
                    waiting.append(self._submit(job, at))
                    at += 1
                index, output, errors = waiting[0]
                reply = await self._reply(job, index)
                result = _result(job.limits, job.inputs[index], reply, output, errors, stderr_bytes)
                for descriptor in waiting.pop(0)[1:]:
                    os.close(descriptor)
                yield result
                if reply[1] & _CELL_DIED:
                    return
        finally:
            for _, output, errors in waiting:
                os.close(output)
                os.close(errors)

    def _submit(self, job: Job, index: int) -> tuple[int, int, int]:
        test, limits = job.inputs[index], job.limits
        stdin = memory_file(test.stdin)
        output, errors = os.memfd_create("stdout", os.MFD_CLOEXEC), os.memfd_create("stderr", os.MFD_CLOEXEC)
        request = REQUEST.pack(
            index, limits.cpu_s, 2 * limits.cpu_s + 2, limits.memory_bytes, test.output_bytes, limits.processes, limits.disk_bytes, limits.disk_inodes,
            (job.seed + index) & 0xFFFFFFFFFFFFFFFF,
        )  # fmt: skip
        try:
            self._cell.channel.send(request, [stdin, output, errors])
        except RunnerLost:
            os.close(output)
            os.close(errors)
            raise
        finally:
            os.close(stdin)
        return index, output, errors

    async def _reply(self, job: Job, index: int) -> tuple[int, int, int, float, float, float, int]:
        group = self._slot.cgroup
        try:
            reply = REPLY.unpack(await asyncio.wait_for(self._cell.channel.receive(), 2 * job.limits.cpu_s + 60))
        except asyncio.TimeoutError as error:
            raise RunnerLost("the supervisor does not answer") from error
        except RunnerLost:
            if self._counters and group is not None and group.oom_kills() > 0:
                return index, OOM | _CELL_DIED, signal.SIGKILL, 0.0, 0.0, 0.0, job.limits.memory_bytes
            raise
        if reply[0] != index:
            raise RunnerLost("the supervisor answered for another test")
        if reply[1] & NOT_READY:
            raise RunnerLost("the box could not be made")
        return reply  # type: ignore[return-value]

    async def close(self) -> None:
        """Kill the cell and wait until nothing of it is left."""
        for descriptor in self._counters:
            os.close(descriptor)
        self._cell.kill()
        await self._cell.gone()


_CELL_DIED = 1 << 16
_OUTPUT_SLACK = 16_777_216
_DATA_HEADROOM = 67_108_864


def _result(
    limits: Limits, test: TestInput, reply: tuple[int, int, int, float, float, float, int], output: int, errors: int, stderr_bytes: int
) -> RunResult:
    index, flags, status, cpu_s, wall_s, _, peak = reply
    size = os.fstat(output).st_size
    stdout = os.pread(output, min(size, test.output_bytes), 0)
    stderr = os.pread(errors, stderr_bytes, 0)
    peak = max(0, peak - size)
    exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    verdict = _status(limits, flags, exit_code, number, cpu_s, peak, size > test.output_bytes, stderr)
    return RunResult(index, verdict, stdout, stderr, exit_code, number, cpu_s, wall_s, peak)


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


def _starved(result: RunResult, limits: Limits) -> bool:
    return result.cpu_s < limits.cpu_s and result.wall_s >= 2 * limits.cpu_s + 2


def _fields(result: RunResult) -> tuple[int | None, Status, bytes, bytes, int | None, int | None, float, float, int]:
    return (
        result.index, result.status, result.stdout, result.stderr, result.exit_code, result.signal, result.cpu_s, result.wall_s, result.memory_bytes,
    )  # fmt: skip


def memory_file(data: bytes) -> int:
    """A descriptor, at its start, of an anonymous file that holds `data`."""
    descriptor = os.memfd_create("data", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _interpreter(python: str) -> tuple[str, str, str]:
    """(prefix, version, executable) of the base interpreter behind `python`. Raises SandboxUnavailable."""
    question = "import json, os, sys; print(json.dumps([sys.base_prefix, '%d.%d' % sys.version_info[:2], os.path.realpath(sys._base_executable)]))"
    try:
        out = subprocess.run([python, "-I", "-c", question], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"the interpreter {python} does not run: {error}") from error
    prefix, version, executable = json.loads(out)
    return os.path.realpath(prefix), version, executable


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "reward-sandbox")


def _write_whole(target: str, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target))
    with contextlib.ExitStack() as undo:
        undo.callback(os.unlink, temporary)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o444)
        os.replace(temporary, target)
        undo.pop_all()
