"""What becomes of one test of a program, and how a detail shows it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reward_service.records import Json, JsonObject, TestStatus
from reward_service.scoring.programs.checkers import Difference
from reward_service.scoring.programs.literals import Mismatch
from sandbox.interface import Limits, RunResult, Status

EXCERPT_CHARACTERS = 2_000  # of outputs, sources and diagnostics in a full detail

STATUSES: Mapping[Status, TestStatus] = {
    Status.RUNTIME_ERROR: TestStatus.RUNTIME_ERROR,
    Status.TIME_LIMIT_EXCEEDED: TestStatus.TIME_LIMIT_EXCEEDED,
    Status.MEMORY_LIMIT_EXCEEDED: TestStatus.MEMORY_LIMIT_EXCEEDED,
    Status.OUTPUT_LIMIT_EXCEEDED: TestStatus.OUTPUT_LIMIT_EXCEEDED,
    Status.POLICY_VIOLATION: TestStatus.POLICY_VIOLATION,
    Status.COMPILE_ERROR: TestStatus.COMPILE_ERROR,
}


@dataclass(frozen=True, slots=True)
class TestFinding:
    """One test's outcome. `index` is its place in the reference's tests, None where the program does not compile."""

    __test__ = False

    index: int | None
    status: TestStatus
    result: RunResult
    difference: Difference | Mismatch | None = None
    check: RunResult | None = None  # of a checker that is a program
    message: str = ""  # what the asserts said, or why an answer is none
    lasting: bool = True  # False: the wall clock, and so the machine, had a part in it


class DrawnTests(Protocol):
    """The tests of one kind that a group's programs are run on."""

    @property
    def drawn(self) -> tuple[int, ...]:
        """Their places in the reference's tests, ascending; never empty."""
        ...

    @property
    def keys(self) -> tuple[bytes, ...]:
        """A digest of each drawn test's own text, and of all that decides on it beside the program: checker, limits, what is called."""
        ...

    @property
    def conditions(self) -> bytes:
        """A digest of all that decides beside program and test whether it compiles."""
        ...

    def run(
        self, language: str, source: str, choose: Callable[[], Sequence[int]], *, started: bool, stop: bool
    ) -> AsyncGenerator[TestFinding, None]:
        """A finding per chosen test, or a single one where the program does not compile; closing the iterator stops the program.

        `choose` is asked when the program's turn has come, and maybe again: the places, in `drawn`, of the tests to run. `started` says
        that its turn had come before; `stop` that nobody asks beyond the first failure.

        Raises:
            NotScored: ours.
        """
        ...


def is_lasting(result: RunResult, cpu_s: float) -> bool:
    """Whether a run's end says nothing of the machine's load: a stop by the wall clock may, also of one that had more CPU time than its
    limit, since a slow machine gives it more.
    """
    return result.status is not Status.TIME_LIMIT_EXCEEDED or (cpu_s <= result.cpu_s and result.wall_s < Limits(cpu_s).net_s)


def is_lasting_error(result: RunResult, compile_s: float) -> bool:
    """The same of a program that does not compile."""
    return result.wall_s < Limits(compile_s).net_s


def program_seed(source: str) -> int:
    """What a program's random numbers begin with: they repeat for the same program."""
    return int.from_bytes(hashlib.sha256(source.encode("utf-8", "replace")).digest()[:8], "big")


def shown(finding: TestFinding) -> JsonObject:
    """The finding as it stands in a full detail: bounded, whatever the program printed."""
    result = finding.result
    found: dict[str, Json] = {
        "status": finding.status.value,
        "cpu_s": round(result.cpu_s, 6),
        "wall_s": round(result.wall_s, 6),
        "memory_bytes": result.memory_bytes,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "stdout": excerpt(result.stdout),
        "stderr": excerpt(result.stderr),
    }
    if finding.difference is not None:
        found["difference"] = _difference(finding.difference)
    if finding.message:
        found["message"] = finding.message[:EXCERPT_CHARACTERS]
    if finding.check is not None:
        check = finding.check
        found["checker"] = {"status": check.status.value, "exit_code": check.exit_code, "stderr": excerpt(check.stderr)}
    return found


def _difference(difference: Difference | Mismatch) -> JsonObject:
    if isinstance(difference, Mismatch):
        return {"unit": "value", "index": difference.path, "got": difference.got, "expected": difference.expected}
    return {"unit": difference.unit, "index": difference.index, "got": difference.got, "expected": difference.expected}


def excerpt(data: bytes) -> str:
    """The first characters of what a program printed."""
    return data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
