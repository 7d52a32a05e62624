"""Fills the cache of compiled headers when an image is built, where boxes cannot be made and nothing hostile runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from types import MappingProxyType

from sandbox import languages
from sandbox.interface import RunResult, Status
from sandbox.namespaces.compiler import CppCompiler
from sandbox.namespaces.run import Slot

_FOLDERS = ("/program", "/box/work")  # paths of the compile box: the header is good for these


class _Unboxed(CppCompiler):
    """The same commands, run as they are on this machine's own paths of the compile box."""

    async def prepare(self) -> str | None:
        """Make everything that a start would make; what is missing, or None."""
        self.version = await asyncio.to_thread(languages.compiler_version, self._compiler)
        slot = Slot(-1, ())
        self._link = await self._best_link(slot)
        if await self._launcher_library(slot) is None:
            return "the launcher does not compile"
        folder, why = await self._precompiled_header(slot)
        return why if folder is None else None

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
        for folder in _FOLDERS:
            os.makedirs(folder, exist_ok=True)
        with open("/program/main.cpp", "w") as file:
            file.write(source)
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, errors = await process.communicate()
        if process.returncode != 0:
            return RunResult(0, Status.RUNTIME_ERROR, stderr=errors, exit_code=process.returncode)
        with open("/box/work/main", "rb") as file:
            return RunResult(0, Status.FINISHED, stdout=file.read(), exit_code=0)


async def prepare(standard: str, cache_dir: str | None) -> int:
    """Make the header and the launcher for this machine's g++; the exit code."""
    compiler = languages.find_compiler()
    if compiler is None:
        sys.stderr.write("prepare: g++ is not installed" + "\n")
        return 1
    if any(os.path.exists(folder) for folder in _FOLDERS):
        sys.stderr.write(f"prepare: {' and '.join(_FOLDERS)} are for this alone, and exist already" + "\n")
        return 1
    try:
        why = await _Unboxed(compiler, standard, cache_dir).prepare()
    finally:
        for folder in ("/program", "/box"):
            shutil.rmtree(folder, ignore_errors=True)
    if why is not None:
        sys.stderr.write(f"prepare: {why}" + "\n")
    return 0 if why is None else 1
