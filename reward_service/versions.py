"""What decides a grade in this process: versions of the service, of its rules, and of what it calls."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform

import reward_service
from reward_service.scoring.equivalence.compare import RULES_VERSION as MATH_RULES_VERSION
from reward_service.scoring.programs.checkers import RULES_VERSION as CODE_RULES_VERSION
from reward_service.settings import Settings

TOOL_WAIT_S = 10.0
PACKAGES = ("math-verify", "sympy", "latex2sympy2-extended", "fasttext-predict")


async def versions_of(settings: Settings, *, embedded: bool) -> dict[str, str]:
    """What decides grades in this process; the tool chain only where programs run here, too."""
    found = {
        "service": reward_service.__version__,
        "python": platform.python_version(),
        "sandbox": settings.sandbox,
        "cpp_standard": settings.cpp_standard,
        "code_rules": str(CODE_RULES_VERSION),
        "math_rules": " ".join((str(MATH_RULES_VERSION), *sorted(settings.math_conventions))),
    }
    if settings.language_second_opinion:
        found["language_second_opinion"] = f"lingua {await asyncio.to_thread(importlib.metadata.version, 'lingua-language-detector')}"
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = await asyncio.to_thread(importlib.metadata.version, package)
    tools = {"program_python": (settings.python, "-I", "-S", "--version"), "g++": ("g++", "--version")} if embedded else {}
    for name, command in tools.items():
        line = await _first_line(*command)
        if line:
            found[name] = line.removeprefix("Python ")
    return found


async def _first_line(*command: str) -> str:
    """The first line that a tool prints, or nothing where it is missing or does not end."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(TOOL_WAIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output.decode("utf-8", "replace").partition("\n")[0].strip()
