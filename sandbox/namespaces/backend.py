"""The embedded backend: boxes made of Linux namespaces, seccomp, rlimits and a cgroup where one is delegated."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import resource
import subprocess
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from sandbox import languages
from sandbox.interface import Job, RunnerLost, RunResult, SandboxUnavailable, Status, TestInput, starved
from sandbox.namespaces import launch, mounts, system
from sandbox.namespaces.cgroups import Cgroups
from sandbox.namespaces.compiler import CppCompiler
from sandbox.namespaces.conversation import Conversation
from sandbox.namespaces.process import Zygote, ZygoteConfig
from sandbox.namespaces.run import BATCH, DIAGNOSTIC_BYTES, Binary, CellRun, Slot, UnclearDeath

_PRELOAD = ("random", "collections", "math", "itertools", "functools", "heapq", "bisect", "re", "string", "typing", "operator")

_OPEN_FILES = 65_536
_SELF_TESTS = 3
_PACKAGES = "/runtime/packages"
_IMPORTS_NUMPY = re.compile(r"^[ \t]*(?:import|from)[ \t]+(?:numpy|scipy|pandas)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NamespacesConfig:
    """Settings of the embedded backend. `packages` is a folder of Python packages for candidates; `uid` what root runs boxes as.

    `cgroup` is a folder to make cgroups in instead of looking for one (`Cgroups.open`).

    `binaries_disk_bytes` bounds the compiled programs that are kept in `cache_dir`. `first_core` is that of the first slot: runners
    with one slot each that share a machine should not all take the same.
    """

    slots: int = 2
    cgroup: str | None = None
    python: str = "python3"
    packages: str | None = None
    strict: bool = False
    cpp_standard: str = "gnu++20"
    cache_dir: str | None = None
    binaries_disk_bytes: int = 0
    uid: int = 64_999
    max_memory_bytes: int = 4_294_967_296
    pin: bool = True
    first_core: int = 0
    compiled_loop: bool = True


class NamespacesSandbox:
    """Runs programs in namespaces of this machine; see `sandbox.interface.Sandbox`."""

    def __init__(self, config: NamespacesConfig) -> None:
        self._config = config
        self._languages: frozenset[str] = frozenset()
        self._cgroups: Cgroups | None = None
        self._zygotes: dict[str, Zygote] = {}
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        self._solo = asyncio.Lock()
        self._solo_slot = Slot(-1, ())
        self._compiler: CppCompiler | None = None
        self._numpy: Zygote | None = None  # started by the first program that imports numpy: it takes 30 MB
        self._numpy_start: asyncio.Task[None] | None = None
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
        _raise_open_files()
        if not system.supported():
            raise SandboxUnavailable(f"no system-call table for {system.machine()}; x86_64 and aarch64 are known")
        self._cgroups = Cgroups.open(self._config.cgroup)
        if self._cgroups is None and self._config.strict:
            raise SandboxUnavailable(
                "strict: no memory cgroup is delegated to this process, and rlimits alone do not bound a whole job tree"
            )
        self._make_slots()
        try:
            await self._start_zygotes()
            found = [name for name in self._candidates() if await self._works(name)]
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
            pinned = (cores[(self._config.first_core + number) % len(cores)],) if self._config.pin else ()
            self._free.put_nowait(Slot(number, pinned))

    def _candidates(self) -> list[str]:
        return ["python", "cpp"] if self._compiler is not None else ["python"]

    async def _start_zygotes(self) -> None:
        prefix, version, executable = await asyncio.to_thread(_interpreter, self._config.python)
        shown = {path: path for path in mounts.library_folders()}
        shown.update({path: path for path in mounts.interpreter_folders(prefix, version, executable)})
        masked = tuple(f"{prefix}/lib/python{version}/{name}" for name in ("site-packages", "dist-packages"))

        def zygote(extra: dict[str, str], packages: str | None = None, preload: tuple[str, ...] = ()) -> Zygote:
            config = self._config
            stack, spares = config.max_memory_bytes, config.slots
            root = {**shown, **extra}
            return Zygote(ZygoteConfig(executable, root, masked, packages, preload, config.uid, stack, spares), self._cgroups)

        launcher = await self._start_compiler(zygote)
        library = {launch.LIBRARY: launcher} if launcher else {}
        folder = self._config.packages
        if folder and os.path.isdir(folder):
            shows = {_PACKAGES: os.path.abspath(folder), **library}
            self._zygotes["python"] = zygote(shows, _PACKAGES, _PRELOAD)
            if os.path.isdir(os.path.join(folder, "numpy")):
                self._numpy = zygote(shows, _PACKAGES, (*_PRELOAD, "numpy"))
        else:
            self._zygotes["python"] = zygote(library, None, _PRELOAD)
            self.notes["python packages"] = "none: programs have the standard library only"
        await self._zygotes["python"].start()
        if self._compiler is not None:
            self._zygotes["native"] = zygote(library)
            await self._zygotes["native"].start()

    async def _start_compiler(self, zygote: Callable[[dict[str, str]], Zygote]) -> str | None:
        """Make the compile box where there is a compiler; the path of the compiled inner loop, if it could be made."""
        found = languages.find_compiler()
        if found is None:
            self.notes["cpp"] = "g++ is not installed (Debian and Ubuntu: apt-get install g++)"
            self.notes["inner loop"] = "interpreted: a compiled one, several times faster, needs g++"
            return None
        self._compiler = CppCompiler(found, self._config.cpp_standard, self._config.cache_dir, self._config.binaries_disk_bytes)
        why = await self._compiler.start(zygote, self._solo_slot)
        if why is not None:
            self.notes["precompiled header"] = why
        return self._compiler.launcher if self._config.compiled_loop else None

    async def _works(self, name: str) -> bool:
        """Whether a language's own program runs as it should; tried again where a signal ended it, which tells nothing."""
        language = languages.LANGUAGES[name]
        job = Job(name, language.self_test, (TestInput(language.self_test_input),))
        self._languages = self._languages | {name}
        for _ in range(_SELF_TESTS):
            try:
                async with contextlib.aclosing(self.run(job)) as results:
                    result = await anext(results)
            except RunnerLost as error:
                self.notes[name] = f"self-test failed: {error}"
                continue
            if result.status is Status.FINISHED and result.stdout == language.self_test_output:
                self.notes.pop(name, None)
                return True
            self.notes[name] = f"self-test failed: {result.status} {result.stderr[:300].decode('utf-8', 'replace')}"
            if result.signal is None:
                break
        return False

    async def close(self) -> None:
        """Kill every box, zygote and cgroup."""
        if self._numpy_start is not None:
            await asyncio.gather(self._numpy_start, return_exceptions=True)
            self._numpy_start = None
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes.values()))
        self._zygotes.clear()
        if self._compiler is not None:
            await self._compiler.close()
            self._compiler = None
        self._languages = frozenset()
        if self._cgroups is not None:
            self._cgroups.close()
            self._cgroups = None

    def describe(self) -> dict[str, str]:
        """What runs here and how it is bounded, for the self-test."""
        return {
            "memory accounting": self.accounting,
            **({"precompiled header": "in use"} if self._compiler is not None and self._compiler.header_in_use else {}),
            **{name: "works" for name in sorted(self._languages)},
            **self.notes,
        }

    def zygote_pids(self) -> dict[str, int]:
        """The warm process of each kind, for measurements."""
        return {name: zygote.pid for name, zygote in self._zygotes.items()}

    # ---- running -----------------------------------------------------------------------------------------------------

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """One result per input, or one `compile_error`; closing the iterator kills the job. Raises SandboxUnavailable, RunnerLost."""
        self._require(job.language)
        slot = await self._free.get()
        try:
            program = await self._program(job, slot)
            if isinstance(program, RunResult):
                yield program
                return
            async with contextlib.aclosing(self._run_tests(job, program, slot)) as results:
                async for result in results:
                    if starved(result, job.limits):
                        result = await self._again_alone(job, program, result)
                    yield result
        finally:
            self._free.put_nowait(slot)

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[Conversation | RunResult, ...], None]:
        """See `sandbox.interface.Sandbox.talk`."""
        for job in jobs:
            self._require(job.language)
        slot = await self._free.get()
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(self._free.put_nowait, slot)
            if any(job.alone for job in jobs):
                await undo.enter_async_context(self._solo)
                slot = self._solo_slot
            sessions = [await self._converse(job, slot, undo) for job in jobs]
            yield tuple(sessions)

    def _require(self, language: str) -> None:
        if language not in self._languages:
            raise SandboxUnavailable(f"{language} does not run here")

    async def _converse(self, job: Job, slot: Slot, undo: contextlib.AsyncExitStack) -> Conversation | RunResult:
        program = await self._program(job, slot)
        if isinstance(program, RunResult):
            return program
        kind = languages.LANGUAGES[job.language].kind
        run = CellRun(await self._zygote_for(kind, job.source).spawn(), slot)
        undo.push_async_callback(run.close)
        failed = await self._load(run, job, program)
        if failed is not None:
            return failed
        session = Conversation(run, job)
        undo.callback(session.close)
        return session

    async def _load(self, run: CellRun, job: Job, program: bytes | Binary) -> RunResult | None:
        kind = languages.LANGUAGES[job.language].kind
        failed = await run.load(kind, program, "main.py" if kind == "python" else "main", (), job)
        return None if failed is None else RunResult(None, Status.COMPILE_ERROR, stderr=failed.encode()[:DIAGNOSTIC_BYTES])

    async def _program(self, job: Job, slot: Slot) -> bytes | Binary | RunResult:
        if languages.LANGUAGES[job.language].kind == "python":
            return job.source.encode("utf-8", "replace")
        assert self._compiler is not None
        return await self._compiler.compile(job, slot)

    def _zygote_for(self, kind: str, source: str) -> Zygote:
        """The warm process that suits the program: one that has numpy imported already, as soon as there is one."""
        if kind == "python" and self._numpy is not None and _IMPORTS_NUMPY.search(source):
            if "numpy" in self._zygotes:
                return self._zygotes["numpy"]
            if self._numpy_start is None:
                self._numpy_start = asyncio.create_task(self._warm_numpy(self._numpy))
        return self._zygotes[kind]

    async def _warm_numpy(self, zygote: Zygote) -> None:
        try:
            await zygote.start()
        except SandboxUnavailable as error:
            self.notes["numpy"] = f"no warm process: {error}"
            return
        self._zygotes["numpy"] = zygote

    async def _again_alone(self, job: Job, program: bytes | Binary, first: RunResult) -> RunResult:
        """A stop by the wall clock with little CPU used says more about the machine: once more, on a quiet slot of its own."""
        assert first.index is not None
        alone = dataclasses.replace(job, inputs=(job.inputs[first.index],))
        async with self._solo, contextlib.aclosing(self._run_tests(alone, program, self._solo_slot)) as results:
            async for result in results:
                return dataclasses.replace(result, index=first.index)
        return first

    async def _run_tests(self, job: Job, program: bytes | Binary, slot: Slot) -> AsyncGenerator[RunResult, None]:
        """Results of all inputs; a cell that the program's memory took down is replaced for the tests that are left."""
        kind = languages.LANGUAGES[job.language].kind
        done = 0
        batch = BATCH
        while done < len(job.inputs):
            run = CellRun(await self._zygote_for(kind, job.source).spawn(), slot)
            try:
                failed = await self._load(run, job, program)
                if failed is not None:
                    yield failed
                    return
                async with contextlib.aclosing(run.tests(job, done, batch=batch)) as results:
                    async for result in results:
                        done += 1
                        yield result
            except UnclearDeath:
                batch = 1
            finally:
                await run.close()


def _raise_open_files() -> None:
    """Lift the soft limit of open files to the hard one: descriptors in flight to boxes are counted against it, per user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _interpreter(python: str) -> tuple[str, str, str]:
    """(prefix, version, executable) of the base interpreter behind `python`. Raises SandboxUnavailable."""
    question = (
        "import json, os, sys; print(json.dumps([sys.base_prefix, '%d.%d' % sys.version_info[:2], os.path.realpath(sys._base_executable)]))"
    )
    try:
        out = subprocess.run([python, "-I", "-c", question], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"the interpreter {python} does not run: {error}") from error
    prefix, version, executable = json.loads(out)
    return os.path.realpath(prefix), version, executable
