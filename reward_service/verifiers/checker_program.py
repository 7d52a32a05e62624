"""Checkers that are programs (Kattis and testlib): proved on the expected outputs, then run on a candidate's, both in the sandbox.

Example: `{"program": {"language": "cpp", "protocol": "testlib", "main": "check.cpp", "files": {"check.cpp": "...", "testlib.h": "..."}}}`.
A data set's checker is no more trusted than a candidate's program, and never in one box with it: it sees a test's input, its expected
output and what the candidate printed, as files; of its run nothing but the exit code counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from reward_service.effects import Effects
from reward_service.errors import BadReference, LanguageUnavailable, WorkerLost
from reward_service.records import CheckerProtocol, ProgramChecker, ProgramTest
from reward_service.scoring.programs.testcases import encode_text
from sandbox.interface import MAX_INPUT_FILES_BYTES, Job, Limits, RunResult, Status, TestInput
from sandbox.languages import canonical_language

CHECKER_LIMITS = Limits(cpu_s=10.0, memory_bytes=1 << 30, compile_s=60.0)
MESSAGE_BYTES = 1 << 20  # that a checker may print; nobody reads more than a line of it
BATCH_BYTES = 1 << 26  # of files are handed over in one job
FIRST_BATCH, GROWTH = 4, 4  # outputs looked at together at first, and how much more each time: a wrong program seldom runs to its end
HELD_BYTES = 1 << 25  # of outputs that wait for the checker

_ARGUMENTS: Mapping[CheckerProtocol, tuple[str, ...]] = {
    CheckerProtocol.KATTIS: ("input", "answer", "./"),  # the feedback folder is the working folder
    CheckerProtocol.TESTLIB: ("input", "output", "answer"),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """One test of a candidate: how its program ended and, where it finished, how the checker did."""

    result: RunResult
    check: RunResult | None = None
    accepted: bool = False


class CheckerProgram:
    """A data set's checker, for one request."""

    def __init__(self, checker: ProgramChecker, effects: Effects) -> None:
        self._checker = checker
        self._sandbox = effects.sandbox
        self._language = canonical_language(checker.language) or checker.language
        files = dict(checker.files)
        self._job = Job(
            self._language,
            files.pop(checker.main),
            (),
            CHECKER_LIMITS,
            files={name: text.encode("utf-8", "replace") for name, text in files.items()},
            arguments=(*_ARGUMENTS[checker.protocol], *checker.arguments),
        )

    async def prove(self, tests: Sequence[ProgramTest], output_bytes: Callable[[ProgramTest], int]) -> None:
        """Run it on the expected outputs, before any completion is read; `output_bytes` is the cap of a candidate's output.

        Raises:
            LanguageUnavailable: the server's fault: it does not run the checker's language.
            BadReference: the data set's fault: the checker does not compile, or does not accept an expected output.
            NotScored: ours: it had not started before the deadline, or its runner was lost.
        """
        if self._language not in self._sandbox.languages:
            raise LanguageUnavailable(f"this server does not run {self._checker.language}, which the checker is written in")
        for test in tests:
            size = len(encode_text(test.stdin)) + len(encode_text(test.stdout)) + output_bytes(test)
            if size > MAX_INPUT_FILES_BYTES:
                raise BadReference("a test is too large for a checker that is a program")
            await asyncio.sleep(0)  # encoding tens of megabytes takes milliseconds
        async with contextlib.aclosing(self._run([(test, encode_text(test.stdout)) for test in tests], started=False)) as results:
            async for place, result in _numbered(results):
                if result.index is None:
                    raise BadReference("the checker does not compile")
                if not self._accepts(result):
                    raise BadReference(f"the checker does not accept the expected output of drawn test {place} ({result.status.value})")

    async def judge(
        self, job: Job, tests: Sequence[ProgramTest], choose: Callable[[], Sequence[int]], *, started: bool, stop: bool
    ) -> AsyncGenerator[Checked, None]:
        """Run a candidate's job on the chosen tests, and the checker on what it prints, in turn so that neither waits for the other.

        One finding per test, or a single one without an index where the candidate does not compile. `choose`, `started` and `stop` are
        those of `DrawnTests.run`; `choose` is asked before each batch.
        """
        size = FIRST_BATCH
        while True:
            held = await self._outputs(job, choose, size, started, stop)
            if not held:
                return
            async with contextlib.aclosing(self._checked(held, tests)) as findings:
                async for finding in findings:
                    yield finding
            if held[-1].index is None or not choose():
                return
            size, started = size * GROWTH, True

    async def _outputs(self, job: Job, choose: Callable[[], Sequence[int]], size: int, started: bool, stop: bool) -> list[RunResult]:
        """What a candidate prints on its next inputs: as many as can be held, or up to its first failure."""
        held: list[RunResult] = []
        printed = 0
        async with contextlib.aclosing(self._sandbox.run(job, started=started, choose=lambda: choose()[:size])) as results:
            async for result in results:
                held.append(result)
                printed += len(result.stdout)
                if printed > HELD_BYTES or (stop and result.status is not Status.FINISHED):
                    break
        return held

    async def _checked(self, held: Sequence[RunResult], tests: Sequence[ProgramTest]) -> AsyncGenerator[Checked, None]:
        printed = [(tests[r.index], r.stdout) for r in held if r.index is not None and r.status is Status.FINISHED]
        async with contextlib.aclosing(self._run(printed, started=True)) as checks:
            for result in held:
                if result.index is None or result.status is not Status.FINISHED:
                    yield Checked(result)
                    continue
                check = await anext(checks)
                if check.index is None:
                    raise WorkerLost("a checker that compiled before does so no more")
                yield Checked(result, check, self._accepts(check))

    async def _run(self, outputs: Sequence[tuple[ProgramTest, bytes]], *, started: bool) -> AsyncGenerator[RunResult, None]:
        async for batch in self._batches(outputs):
            async with contextlib.aclosing(self._sandbox.run(replace(self._job, inputs=batch), started=started)) as results:
                async for result in results:
                    yield result

    async def _batches(self, outputs: Sequence[tuple[ProgramTest, bytes]]) -> AsyncIterator[tuple[TestInput, ...]]:
        """What one job is given: BATCH_BYTES of files, or a single output that has more."""
        batch: list[TestInput] = []
        size = 0
        for test, output in outputs:
            given = self._input(test, output)
            own = len(given.stdin) + sum(map(len, given.files.values()))
            if batch and size + own > BATCH_BYTES:
                yield tuple(batch)
                batch, size = [], 0
            batch.append(given)
            size += own
            await asyncio.sleep(0)
        if batch:
            yield tuple(batch)

    def _input(self, test: ProgramTest, output: bytes) -> TestInput:
        given, answer = encode_text(test.stdin), encode_text(test.stdout)
        if self._checker.protocol is CheckerProtocol.KATTIS:
            return TestInput(output, MESSAGE_BYTES, {"input": given, "answer": answer})
        return TestInput(b"", MESSAGE_BYTES, {"input": given, "output": output, "answer": answer})

    def _accepts(self, result: RunResult) -> bool:
        """Whether its exit code says so: a crash, a limit or any other code does not, whoever is to blame."""
        if self._checker.protocol is CheckerProtocol.KATTIS:
            return result.status is Status.RUNTIME_ERROR and result.exit_code == 42
        return result.status is Status.FINISHED


async def _numbered(results: AsyncGenerator[RunResult, None]) -> AsyncGenerator[tuple[int, RunResult], None]:
    place = 0
    async for result in results:
        yield place, result
        place += 1
