"""What works on this machine, what does not, and what to do about it: a canary through the whole pipeline for each task and language."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reward_service.errors import RewardServiceError
from reward_service.langid import MODEL_PATH, LanguageModelUnusable, check_model_file
from reward_service.pipeline import grade_groups
from reward_service.records import (
    ChoiceReference,
    CodeReference,
    DetailLevel,
    Grade,
    Group,
    MathReference,
    Outcome,
    ProgramTest,
    Rollout,
)
from reward_service.scoring.scheme import SCHEMES
from reward_service.wiring import Machine
from sandbox.selfcheck import run_selfcheck

_TESTS = (ProgramTest("1 2\n", "3\n"), ProgramTest("20 22\n", "42\n"))
_IN_PYTHON, _IN_CPP = CodeReference(_TESTS, languages=("python",)), CodeReference(_TESTS, languages=("cpp",))
_PYTHON = "```python\nprint(sum(map(int, input().split())))\n```"
_CPP = "```cpp\n#include <bits/stdc++.h>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n```"
_NUMPY = "```python\nimport numpy\nprint(numpy.array(input().split(), dtype=int).sum())\n```"
_LANGUAGE = "Il faut donc calculer la somme de ces deux nombres avant de répondre à la question."

GOOD: Mapping[str, str] = {
    "memory accounting": "cgroup",
    "precompiled header": "in use",
    "runners": "all",
    "grants": "the least",
    "runtime": "",
}  # how a feature's finding begins where all is well
FEATURE_ADVICE: Mapping[str, str] = {
    "memory accounting": "memory is bounded per process and by watching, not for the whole job tree: delegate a memory cgroup to this user "
    "(systemd-run --user --scope -p Delegate=yes, or a folder of the memory and pids controllers that it owns); for containers "
    "deploy/delegate-cgroup does it (docs/deploy.md)",
    "precompiled header": "each C++ program compiles about a second slower: install g++ and let this user write its cache folder",
    "runners": "see what is said of those that do not run (docs/deploy.md)",
    "grants": "run them as deploy/compose.yaml does: an ordinary user, no capabilities, no network, a read-only root, deploy/seccomp.json",
    "cpp": "install g++ (Debian and Ubuntu: apt-get install g++), or take cpp out of REWARD_LANGUAGES",
}
CANARIES: Mapping[str, Group] = {
    "math": Group("math", "math", MathReference(("\\frac{1}{2}",)), (Rollout("0", "\\boxed{0.5}"),)),
    "choice": Group("choice", "choice", ChoiceReference("B", ("one", "two")), (Rollout("0", "\\boxed{B}"),)),
    "code in Python": Group("python", "code", _IN_PYTHON, (Rollout("0", _PYTHON),)),
    "code in C++": Group("cpp", "code", _IN_CPP, (Rollout("0", _CPP),)),
    "numpy for programs": Group("numpy", "code", _IN_PYTHON, (Rollout("0", _NUMPY),)),
}
ADVICE: Mapping[str, str] = {
    "math": "see the message; reinstall from the lock file if a package is missing",
    "choice": "see the message; reinstall from the lock file if a package is missing",
    "code in Python": "set REWARD_PYTHON to an interpreter that works, and see the sandbox's line",
    "code in C++": "install g++ (Debian and Ubuntu: apt-get install g++), or take cpp out of REWARD_LANGUAGES",
    "numpy for programs": "point REWARD_PYTHON_PACKAGES at a folder with numpy for that interpreter (`make setup` makes one)",
}


class Works(enum.StrEnum):
    """How far a thing works: `partly` is weaker or slower than it could be, and no fault."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was tried: whether it works, what was found, and what to do where it does not."""

    name: str
    works: Works
    found: str
    advice: str = ""


@runtime_checkable
class Described(Protocol):
    """A sandbox that can say more of itself than its contract asks for."""

    def describe(self) -> Mapping[str, str]:
        """Features by name, and how each is here."""
        ...


async def selftest(machine: Machine) -> AsyncIterator[Line]:
    """Start the machine and try everything, a line at a time as it is known. The caller closes the machine."""
    try:
        check_model_file(machine.settings.language_model or MODEL_PATH)
    except LanguageModelUnusable as error:
        yield Line("language model", Works.NO, str(error), "every request needs it: nothing else can be tried without")
        return
    try:
        await machine.start()
    except RewardServiceError as error:
        yield Line("workers", Works.NO, str(error), "the message says what to do")
        return
    yield await _language(machine)
    for line in _sandbox(machine):
        yield line
    if machine.sandbox_fault is None:
        yield await _conformance(machine)
    for name, group in CANARIES.items():
        yield await _canary(machine, name, group)


async def _language(machine: Machine) -> Line:
    name = "language model, in a worker"
    try:
        finding = await machine.effects("selftest", None).judge_language("literal", _LANGUAGE, _LANGUAGE, _LANGUAGE, None)
    except RewardServiceError as error:
        return Line(name, Works.NO, str(error), "the message says what to do")
    return Line(name, Works.YES if finding.consistent else Works.NO, f"lid.176.ftz, {machine.workers.count} workers")


def _sandbox(machine: Machine) -> list[Line]:
    if machine.sandbox_fault is not None:
        return [Line("sandbox", Works.NO, machine.sandbox_fault, "code groups are unscored until then; other tasks run")]
    sandbox = machine.sandbox
    lines = [Line("sandbox", Works.YES, f"{machine.settings.sandbox}, {sandbox.slots} slots; runs {', '.join(sorted(sandbox.languages))}")]
    if isinstance(sandbox, Described):
        lines += [_feature(name, found) for name, found in sandbox.describe().items() if name not in sandbox.languages]
    return lines


async def _conformance(machine: Machine) -> Line:
    """The whole list that every backend passes, attacks included."""
    findings = await run_selfcheck(machine.sandbox)
    broken = [f"{finding.name}: {finding.detail}" for finding in findings if not finding.ok]
    name = "sandbox: conformance and canary attacks"
    if broken:
        return Line(name, Works.NO, "; ".join(broken), "do not grade code here; the broken promises say what to look at")
    return Line(name, Works.YES, f"all {len(findings)} hold")


def _feature(name: str, found: str) -> Line:
    """A feature without which programs run all the same, more slowly or less tightly bounded; languages have canaries of their own."""
    good = found.startswith(GOOD[name]) if name in GOOD else False
    return Line(f"sandbox: {name}", Works.YES if good else Works.PARTLY, found, FEATURE_ADVICE.get(name, ""))


async def _canary(machine: Machine, name: str, group: Group) -> Line:
    scheme = SCHEMES["correctness-only"]
    grades = grade_groups([group], scheme, machine.effects("selftest", None), DetailLevel.FULL)
    async with contextlib.aclosing(grades):
        (grade,) = [grade async for grade in grades]
    if grade.outcome is Outcome.CORRECT:
        return Line(name, Works.YES, "a sample is graded correct")
    return Line(name, Works.NO if _matters(name, machine) else Works.PARTLY, _why(grade), ADVICE[name])


def _matters(name: str, machine: Machine) -> bool:
    """Whether the settings promise what this canary tries; packages for programs are a matter of what the programs need."""
    needs = {"code in Python": "python", "code in C++": "cpp"}
    return needs[name] in machine.settings.languages if name in needs else name in ("math", "choice")


def _why(grade: Grade) -> str:
    detail = grade.detail
    if grade.outcome is Outcome.UNSCORED:
        return f"{detail.get('reason')}: {detail.get('message')}"
    tests = detail.get("tests")
    errors = [str(test.get("stderr", "")).strip() for test in tests if isinstance(test, Mapping)] if isinstance(tests, list) else []
    said = next((error.splitlines()[-1] for error in errors if error), str(detail.get("diagnostics") or detail.get("first_failure") or ""))
    return f"a right answer is graded {grade.outcome.value}: {said[:300]}"
