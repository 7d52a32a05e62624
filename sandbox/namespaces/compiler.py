"""C++: compiled in a box of its own with a precompiled header, each source once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sandbox import languages
from sandbox.interface import Job, Limits, RunnerLost, RunResult, Status, TestInput, starved
from sandbox.namespaces import launch
from sandbox.namespaces.binaries import BinaryStore
from sandbox.namespaces.process import Zygote
from sandbox.namespaces.run import DIAGNOSTIC_BYTES, Binary, CellRun, Slot

COMPILE_MEMORY_BYTES = 1_073_741_824
COMPILE_DISK_BYTES = 268_435_456
BINARY_BYTES = 67_108_864
HEADER_BYTES = 536_870_912
CACHE_BYTES = 268_435_456
_HEADER_CPU_S = 60.0

ZygoteFactory = Callable[[dict[str, str]], Zygote]  # from what it shows beyond the run-time libraries


class CppCompiler:
    """g++ in a box whose root holds nothing but the tool chain."""

    def __init__(self, compiler: str, standard: str, cache_dir: str | None, disk_bytes: int = 0) -> None:
        self._compiler = compiler
        self._standard = standard
        self._cache_dir = cache_dir or _default_cache()
        self._store = BinaryStore(os.path.join(self._cache_dir, "binaries"), disk_bytes)
        self._zygote: Zygote | None = None
        self._binaries: OrderedDict[str, tuple[Binary, float]] = OrderedDict()  # with the CPU seconds that it took to compile
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._link: tuple[str, ...] = ()
        self.compiled = 0  # programs for which the compiler ran
        self.header_in_use = False
        self.launcher: str | None = None
        self.version = ""

    async def start(self, make_zygote: ZygoteFactory, slot: Slot) -> str | None:
        """Make the box, and the header where it is not cached; why there is no header, if so.

        Raises:
            SandboxUnavailable: the machine's fault.
        """
        self.version = await asyncio.to_thread(languages.compiler_version, self._compiler)
        tools = await asyncio.to_thread(languages.tool_chain, self._compiler)
        self._zygote = make_zygote(tools)
        await self._zygote.start()
        self._link = await self._best_link(slot)
        self.launcher = await self._launcher_library(slot)
        folder, why = await self._precompiled_header(slot)
        if folder is None:
            return why
        await self._zygote.close()
        self._zygote = make_zygote({**tools, languages.HEADER_FOLDER: folder})
        await self._zygote.start()
        self.header_in_use = True
        return None

    async def _best_link(self, slot: Slot) -> tuple[str, ...]:
        """The first way to link that works here: static libraries and gold are separate packages elsewhere."""
        for flags in languages.LINK_FLAGS:
            command = languages.compile_command(self._compiler, self._standard, flags, with_header=False)
            result = await self._in_box(command, "int main() {}\n", _HEADER_CPU_S, BINARY_BYTES, slot)
            if result.status is Status.FINISHED:
                return flags
        return ()

    async def _launcher_library(self, slot: Slot) -> str | None:
        """The path of the compiled `launch.c`, made in the box where it is not cached yet; None where it cannot be made."""
        with open(launch.SOURCE) as file:
            source = file.read()
        command = (self._compiler, *launch.COMPILE_FLAGS, "/program/main.cpp", "-o", "/box/work/main")
        path = os.path.join(self._cache_dir, f"launch-{self._key(*command, source)}.so")
        if not os.path.exists(path):
            result = await self._in_box(command, source, _HEADER_CPU_S, BINARY_BYTES, slot)
            if result.status is not Status.FINISHED:
                return None
            try:
                await asyncio.to_thread(_write_whole, path, result.stdout)
            except OSError:
                return None
        return path

    def _key(self, *parts: str) -> str:
        return hashlib.sha256("\0".join((self.version, *parts)).encode("utf-8", "replace")).hexdigest()[:16]

    async def close(self) -> None:
        """End the box."""
        if self._zygote is not None:
            await self._zygote.close()
            self._zygote = None

    async def _precompiled_header(self, slot: Slot) -> tuple[str | None, str]:
        """(folder that holds the header for exactly our flags, ""), or (None, why there is none)."""
        command = languages.header_command(self._compiler, self._standard)
        folder = os.path.join(self._cache_dir, f"pch-{self._key(*command)}")
        target = os.path.join(folder, "bits", "stdc++.h.gch")
        if os.path.exists(target):
            return folder, ""
        result = await self._in_box(command, "#include <bits/stdc++.h>\n", _HEADER_CPU_S, HEADER_BYTES, slot)
        if result.status is not Status.FINISHED:
            return None, f"could not be made: {result.status} {result.stderr[:200].decode('utf-8', 'replace')}"
        try:
            await asyncio.to_thread(_write_whole, target, result.stdout)
        except OSError as error:
            return None, f"could not be kept in {self._cache_dir}: {error.strerror}"
        return folder, ""

    async def compile(self, job: Job, slot: Slot) -> Binary | RunResult:
        """The binary, or a `compile_error` with the diagnostics. Raises RunnerLost."""
        command = languages.compile_command(self._compiler, self._standard, self._link, with_header=self.header_in_use)
        parts = (self.version, *command, job.source)
        key = _digest(*(part.encode("utf-8", "replace") for part in parts), *_flat(job.files))
        while key in self._under_way:
            await asyncio.wait({self._under_way[key]})
        self._under_way[key] = done = asyncio.get_running_loop().create_future()
        try:
            return await self._known(key, job.limits.compile_s) or await self._compile(key, command, job, slot)
        finally:
            del self._under_way[key]
            done.set_result(None)

    async def _known(self, key: str, compile_s: float) -> Binary | None:
        """What was compiled before, here or by a service before this one, within so many CPU seconds."""
        if key not in self._binaries:
            found = await asyncio.to_thread(self._store.read, key)
            if found is None:
                return None
            self._keep(key, Binary(found[0]), found[1])
        if key not in self._binaries or self._binaries[key][1] > compile_s:
            return None
        self._binaries.move_to_end(key)
        return self._binaries[key][0]

    def _keep(self, key: str, binary: Binary, cpu_s: float) -> None:
        self._binaries[key] = (binary, cpu_s)
        while sum(kept.size for kept, _ in self._binaries.values()) > CACHE_BYTES:
            self._binaries.popitem(last=False)

    async def _compile(self, key: str, command: tuple[str, ...], job: Job, slot: Slot) -> Binary | RunResult:
        self.compiled += 1
        result = await self._in_box(command, job.source, job.limits.compile_s, BINARY_BYTES, slot, job.files)
        if starved(result, Limits(cpu_s=job.limits.compile_s)):
            # The wall clock stopped a compiler that lacked a core: once more, and patiently.
            result = await self._in_box(command, job.source, job.limits.compile_s, BINARY_BYTES, slot, job.files, patience=4)
        if result.status is not Status.FINISHED:
            why = result.stderr or f"compiler: {result.status}".encode()
            return RunResult(
                None, Status.COMPILE_ERROR, stderr=why, cpu_s=result.cpu_s, wall_s=result.wall_s, memory_bytes=result.memory_bytes
            )
        binary = Binary(result.stdout)
        self._keep(key, binary, result.cpu_s)
        await asyncio.to_thread(self._store.write, key, result.stdout, result.cpu_s)
        return binary

    async def _in_box(
        self,
        command: tuple[str, ...],
        source: str,
        cpu_s: float,
        output_bytes: int,
        slot: Slot,
        files: Mapping[str, bytes] = MappingProxyType({}),
        patience: int = 1,
    ) -> RunResult:
        assert self._zygote is not None
        limits = Limits(
            cpu_s=cpu_s,
            memory_bytes=COMPILE_MEMORY_BYTES,
            disk_bytes=max(COMPILE_DISK_BYTES, output_bytes),
            wall_s=patience * Limits(cpu_s=cpu_s).net_s,
        )
        run = CellRun(await self._zygote.spawn(), slot)
        try:
            job = Job("cpp", source, (TestInput(b"", output_bytes),), limits, files=files)
            failed = await run.load("compile", source.encode("utf-8", "replace"), languages.CPP.file, command, job)
            if failed is not None:
                raise RunnerLost(failed)
            async with contextlib.aclosing(run.tests(job, 0, DIAGNOSTIC_BYTES)) as results:
                async for result in results:
                    return result
            raise RunnerLost("the compile box gave no result")
        finally:
            await run.close()


def _flat(files: Mapping[str, bytes]) -> list[bytes]:
    return [part for name in sorted(files) for part in (name.encode(), files[name])]


def _digest(*parts: bytes) -> str:
    """sha256 over the parts and their lengths."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "reward-sandbox")


def _write_whole(target: str, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it. Raises OSError."""
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target))
    with contextlib.ExitStack() as undo:
        undo.callback(os.unlink, temporary)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o444)
        os.replace(temporary, target)
        undo.pop_all()
