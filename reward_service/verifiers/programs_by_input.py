"""Programs of the task `code` that read standard input and write standard output.

Example: `{"tests": [{"stdin": "1 2\\n", "stdout": "3\\n"}]}`, and any checker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from reward_service.effects import Effects
from reward_service.records import CodeReference, OutputChecker, ProgramChecker, ProgramTest, TestStatus
from reward_service.scoring.programs.checkers import Difference, compare_output
from reward_service.scoring.programs.testcases import encode_text
from reward_service.verifiers.checker_program import CHECKER_LIMITS, CheckerProgram
from reward_service.verifiers.code_findings import STATUSES, TestFinding, is_lasting, is_lasting_error, program_seed
from reward_service.verifiers.code_keys import Keys, keys_of
from sandbox.interface import Job, Limits, RunResult, Status, TestInput

OUTPUT_BYTES = 8_388_608  # cap of a program's output, or twice the expected output and 64 KiB more, whichever is more
OUTPUT_SLACK_BYTES = 65_536


class ProgramTests:
    """The drawn inputs of a program and the outputs that are expected."""

    def __init__(
        self, reference: CodeReference, drawn: tuple[int, ...], keys: Keys, effects: Effects, program: CheckerProgram | None
    ) -> None:
        self._reference, self.drawn, self._effects, self._program = reference, drawn, effects, program
        self.keys, self.conditions = keys.tests, keys.conditions
        self._inputs: tuple[TestInput, ...] = ()

    @classmethod
    async def prepare(cls, reference: CodeReference, drawn: tuple[int, ...], effects: Effects) -> ProgramTests:
        """Prove a checker that is a program on the expected outputs.

        Raises:
            BadReference, LanguageUnavailable, NotScored: what that found.
        """
        program = None
        if isinstance(reference.checker, ProgramChecker):
            program = CheckerProgram(reference.checker, effects)
            await program.prove([reference.tests[index] for index in drawn], _output_bytes)
        return cls(reference, drawn, await keys_of(reference, drawn), effects, program)

    def run(
        self, language: str, source: str, choose: Callable[[], Sequence[int]], *, started: bool, stop: bool
    ) -> AsyncGenerator[TestFinding, None]:
        """See `DrawnTests`."""
        if not self._inputs:
            self._inputs = tuple(TestInput(encode_text(test.stdin), _output_bytes(test)) for test in self._tests)
        limits = self._reference.limits
        job = Job(language, source, self._inputs, Limits(limits.cpu_s, limits.memory_bytes, limits.compile_s), program_seed(source))
        return self._compared(job, choose, started) if self._program is None else self._checked(job, choose, started, stop)

    @property
    def _tests(self) -> list[ProgramTest]:
        return [self._reference.tests[index] for index in self.drawn]

    async def _compared(self, job: Job, choose: Callable[[], Sequence[int]], started: bool) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that compares on this side."""
        checker, tests = self._reference.checker, self._tests
        assert not isinstance(checker, ProgramChecker)
        async with contextlib.aclosing(self._effects.sandbox.run(job, started=started, choose=choose)) as results:
            async for result in results:
                if result.index is None:
                    yield TestFinding(None, TestStatus.COMPILE_ERROR, result, lasting=is_lasting_error(result, job.limits.compile_s))
                    return
                finding = await _judge(checker, tests[result.index], self.drawn[result.index], result)
                yield replace(finding, lasting=is_lasting(result, job.limits.cpu_s))

    async def _checked(self, job: Job, choose: Callable[[], Sequence[int]], started: bool, stop: bool) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that is a program."""
        assert self._program is not None
        async with contextlib.aclosing(self._program.judge(job, self._tests, choose, started=started, stop=stop)) as found:
            async for checked in found:
                result, check = checked.result, checked.check
                index = None if result.index is None else self.drawn[result.index]
                lasting = is_lasting(result, job.limits.cpu_s) and (check is None or is_lasting(check, CHECKER_LIMITS.cpu_s))
                if index is None:
                    lasting = is_lasting_error(result, job.limits.compile_s)
                if index is None or check is None:
                    yield TestFinding(index, STATUSES[result.status], result, lasting=lasting)
                    continue
                status = TestStatus.ACCEPTED if checked.accepted else TestStatus.WRONG_ANSWER
                yield TestFinding(index, status, result, check=check, lasting=lasting)


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
