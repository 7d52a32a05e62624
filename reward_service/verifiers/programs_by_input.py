"""Programs of the task `code` that read standard input and write standard output.

Example: `{"tests": [{"stdin": "1 2\\n", "stdout": "3\\n"}]}`, and any checker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from reward_service.effects import Effects
from reward_service.records import CodeReference, OutputChecker, ProgramChecker, ProgramTest, TestStatus
from reward_service.scoring.programs.checkers import Difference, compare_output
from reward_service.scoring.programs.testcases import encode_text
from reward_service.verifiers.checker_program import CheckerProgram
from reward_service.verifiers.code_findings import STATUSES, TestFinding, program_seed
from sandbox.interface import Job, Limits, RunResult, Status, TestInput

OUTPUT_BYTES = 8_388_608  # cap of a program's output, or twice the expected output and 64 KiB more, whichever is more
OUTPUT_SLACK_BYTES = 65_536


class ProgramTests:
    """The drawn inputs of a program and the outputs that are expected."""

    def __init__(
        self, reference: CodeReference, drawn: tuple[int, ...], effects: Effects, program: CheckerProgram | None, fraction: bool
    ) -> None:
        self._reference, self.drawn, self._effects, self._program, self._fraction = reference, drawn, effects, program, fraction

    @classmethod
    async def prepare(cls, reference: CodeReference, drawn: tuple[int, ...], effects: Effects, fraction: bool) -> ProgramTests:
        """Prove a checker that is a program on the expected outputs.

        Raises:
            BadReference, LanguageUnavailable, NotScored: what that found.
        """
        program = None
        if isinstance(reference.checker, ProgramChecker):
            program = CheckerProgram(reference.checker, effects)
            await program.prove([reference.tests[index] for index in drawn], _output_bytes)
        return cls(reference, drawn, effects, program, fraction)

    def run(self, language: str, source: str) -> AsyncGenerator[TestFinding, None]:
        """See `DrawnTests`."""
        limits = self._reference.limits
        inputs = tuple(TestInput(encode_text(test.stdin), _output_bytes(test)) for test in self._tests)
        job = Job(language, source, inputs, Limits(limits.cpu_s, limits.memory_bytes, limits.compile_s), program_seed(source))
        return self._compared(job) if self._program is None else self._checked(job)

    @property
    def _tests(self) -> list[ProgramTest]:
        return [self._reference.tests[index] for index in self.drawn]

    async def _compared(self, job: Job) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that compares on this side."""
        checker, tests = self._reference.checker, self._tests
        assert not isinstance(checker, ProgramChecker)
        async with contextlib.aclosing(self._effects.sandbox.run(job)) as results:
            async for result in results:
                if result.index is None:
                    yield TestFinding(None, TestStatus.COMPILE_ERROR, result)
                    return
                yield await _judge(checker, tests[result.index], self.drawn[result.index], result)

    async def _checked(self, job: Job) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that is a program."""
        assert self._program is not None
        async with contextlib.aclosing(self._program.judge(job, self._tests, stop=not self._fraction)) as found:
            async for checked in found:
                result = checked.result
                index = None if result.index is None else self.drawn[result.index]
                if checked.check is None:
                    yield TestFinding(index, STATUSES[result.status], result)
                    continue
                status = TestStatus.ACCEPTED if checked.accepted else TestStatus.WRONG_ANSWER
                yield TestFinding(index, status, result, check=checked.check)


def _output_bytes(test: ProgramTest) -> int:
    return max(OUTPUT_BYTES, 2 * len(encode_text(test.stdout)) + OUTPUT_SLACK_BYTES)


async def _judge(checker: OutputChecker, test: ProgramTest, index: int, result: RunResult) -> TestFinding:
    if result.status is not Status.FINISHED:
        return TestFinding(index, STATUSES[result.status], result)
    comparison = compare_output(checker, result.stdout, test.stdout)
    while True:
        try:
            next(comparison)
        except StopIteration as done:
            difference: Difference | None = done.value
            break
        await asyncio.sleep(0)
    status = TestStatus.ACCEPTED if difference is None else TestStatus.WRONG_ANSWER
    return TestFinding(index, status, result, difference)
