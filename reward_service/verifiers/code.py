"""The `code` task: runs the program on hidden tests in the sandbox and compares its outputs on this side.

Example: a Python block that prints the sum of its input, against `{"tests": [{"stdin": "1 2\\n", "stdout": "3\\n"}]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from reward_service.effects import Effects
from reward_service.errors import BadReference, LanguageUnavailable, NoSandbox
from reward_service.records import (
    AnswerForm,
    CodeBlock,
    CodeReference,
    DetailLevel,
    FinalAnswer,
    Json,
    JsonObject,
    OutputChecker,
    ProgramChecker,
    ProgramTest,
    TestStatus,
    Verdict,
)
from reward_service.scoring.programs.checkers import Difference, compare_output
from reward_service.scoring.programs.testcases import digest_test_set, draw_tests, encode_text
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.checker_program import CheckerProgram
from sandbox.interface import Job, Limits, RunResult, Status, TestInput
from sandbox.languages import canonical_language

OUTPUT_BYTES = 8_388_608  # cap of a program's output, or twice the expected output and 64 KiB more, whichever is more
OUTPUT_SLACK_BYTES = 65_536
EXCERPT_CHARACTERS = 2_000  # of outputs, sources and diagnostics in a full detail

_STATUSES: Mapping[Status, TestStatus] = {
    Status.RUNTIME_ERROR: TestStatus.RUNTIME_ERROR,
    Status.TIME_LIMIT_EXCEEDED: TestStatus.TIME_LIMIT_EXCEEDED,
    Status.MEMORY_LIMIT_EXCEEDED: TestStatus.MEMORY_LIMIT_EXCEEDED,
    Status.OUTPUT_LIMIT_EXCEEDED: TestStatus.OUTPUT_LIMIT_EXCEEDED,
    Status.POLICY_VIOLATION: TestStatus.POLICY_VIOLATION,
    Status.COMPILE_ERROR: TestStatus.COMPILE_ERROR,
}


class CodeVerifier:
    """Judges programs by their outputs on drawn tests."""

    @property
    def answer_form(self) -> AnswerForm:
        """The first fenced code block with a language."""
        return AnswerForm.CODE_BLOCK

    async def prepare(self, reference: CodeReference, context: GroupContext, effects: Effects) -> CodeJudge:
        """Draw the group's tests and settle the languages before any completion is read.

        Raises:
            BadReference: the reference names a test set that is not here (the server refuses such a request before).
            NoSandbox: the machine's fault.
            LanguageUnavailable: the server's fault: an allowed language, or the checker's, does not run here.
            NotScored: while a checker that is a program is proved on the expected outputs.
        """
        if reference.testset is not None:
            raise BadReference("a test set is named that nobody put in its place")
        allowed = _allowed(reference.languages or effects.default_languages, effects.sandbox.languages)
        digest = reference.digest or await asyncio.to_thread(digest_test_set, reference.tests, reference.checker)
        drawn = draw_tests(len(reference.tests), reference.draw, context.group_id, digest, context.seed)
        program = None
        if isinstance(reference.checker, ProgramChecker):
            program = CheckerProgram(reference.checker, effects)
            await program.prove([reference.tests[index] for index in drawn], _output_bytes)
        return CodeJudge(reference, allowed, drawn, context, effects, program)


def _allowed(names: tuple[str, ...], available: frozenset[str]) -> frozenset[str]:
    if not available:
        raise NoSandbox("no program runs on this machine; `reward-service selftest` says why")
    allowed = {canonical_language(name) or name for name in names}
    missing = sorted(allowed - available)
    if missing:
        raise LanguageUnavailable(f"this server does not run {', '.join(missing)}")
    return frozenset(allowed)


@dataclass(frozen=True, slots=True)
class TestFinding:
    """One test's outcome."""

    __test__ = False

    index: int | None
    status: TestStatus
    result: RunResult
    difference: Difference | None = None
    check: RunResult | None = None  # of a checker that is a program


class CodeJudge:
    """Judges the programs of one group on the same drawn tests."""

    def __init__(
        self,
        reference: CodeReference,
        allowed: frozenset[str],
        drawn: tuple[int, ...],
        context: GroupContext,
        effects: Effects,
        program: CheckerProgram | None = None,
    ) -> None:
        self._reference = reference
        self._allowed = allowed
        self._drawn = drawn
        self._context = context
        self._effects = effects
        self._program = program

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """The share of drawn tests passed, or 0 or 1 where the first failure ends it. Raises NotScored: ours."""
        assert isinstance(final_answer, CodeBlock)
        language = canonical_language(final_answer.language)
        if language is None or language not in self._allowed:
            return self._verdict(final_answer.language, final_answer, [_not_allowed()])
        findings = [finding async for finding in self._run(language, final_answer.source)]
        return self._verdict(language, final_answer, findings)

    async def _run(self, language: str, source: str) -> AsyncIterator[TestFinding]:
        tests = [self._reference.tests[index] for index in self._drawn]
        job = Job(language, source, tuple(_input(test) for test in tests), self._limits(), _seed(source))
        async with contextlib.aclosing(self._compared(job, tests) if self._program is None else self._checked(job, tests)) as findings:
            async for finding in findings:
                yield finding
                if finding.status is not TestStatus.ACCEPTED and not self._context.fraction:
                    return

    async def _compared(self, job: Job, tests: Sequence[ProgramTest]) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that compares on this side."""
        checker = self._reference.checker
        assert not isinstance(checker, ProgramChecker)
        async with contextlib.aclosing(self._effects.sandbox.run(job)) as results:
            async for result in results:
                if result.index is None:
                    yield TestFinding(None, TestStatus.COMPILE_ERROR, result)
                    return
                yield await _judge(checker, tests[result.index], self._drawn[result.index], result)

    async def _checked(self, job: Job, tests: Sequence[ProgramTest]) -> AsyncGenerator[TestFinding, None]:
        """Findings of a checker that is a program."""
        assert self._program is not None
        async with contextlib.aclosing(self._program.judge(job, tests, stop=not self._context.fraction)) as found:
            async for checked in found:
                result = checked.result
                index = None if result.index is None else self._drawn[result.index]
                if checked.check is None:
                    yield TestFinding(index, _STATUSES[result.status], result)
                    continue
                status = TestStatus.ACCEPTED if checked.accepted else TestStatus.WRONG_ANSWER
                yield TestFinding(index, status, result, check=checked.check)

    def _limits(self) -> Limits:
        limits = self._reference.limits
        return Limits(cpu_s=limits.cpu_s, memory_bytes=limits.memory_bytes, compile_s=limits.compile_s)

    def _verdict(self, language: str, block: CodeBlock, findings: list[TestFinding]) -> Verdict:
        passed = sum(finding.status is TestStatus.ACCEPTED for finding in findings)
        run = sum(finding.index is not None for finding in findings)
        failure = next((finding for finding in findings if finding.status is not TestStatus.ACCEPTED), None)
        brief: JsonObject = {
            "language": language[:40],
            "tests_run": run,
            "tests_passed": passed,
            "first_failure": None if failure is None else {"index": failure.index, "status": failure.status.value},
        }
        full = self._full(block, findings) if self._context.detail is DetailLevel.FULL else {}
        return Verdict(passed / len(self._drawn), brief, full)

    def _full(self, block: CodeBlock, findings: list[TestFinding]) -> JsonObject:
        known = {finding.index: _shown(finding) for finding in findings if finding.index is not None}
        not_run: JsonObject = {"status": TestStatus.NOT_RUN.value}
        tests: list[Json] = [{"index": index, **known.get(index, not_run)} for index in self._drawn]
        diagnostics = next((_excerpt(finding.result.stderr) for finding in findings if finding.index is None), None)
        return {"program": block.source[:EXCERPT_CHARACTERS], "drawn": list(self._drawn), "tests": tests, "diagnostics": diagnostics}


def _not_allowed() -> TestFinding:
    return TestFinding(None, TestStatus.LANGUAGE_NOT_ALLOWED, RunResult(None, Status.COMPILE_ERROR))


def _input(test: ProgramTest) -> TestInput:
    return TestInput(encode_text(test.stdin), _output_bytes(test))


def _output_bytes(test: ProgramTest) -> int:
    return max(OUTPUT_BYTES, 2 * len(encode_text(test.stdout)) + OUTPUT_SLACK_BYTES)


def _seed(source: str) -> int:
    return int.from_bytes(hashlib.sha256(source.encode("utf-8", "replace")).digest()[:8], "big")


async def _judge(checker: OutputChecker, test: ProgramTest, index: int, result: RunResult) -> TestFinding:
    if result.status is not Status.FINISHED:
        return TestFinding(index, _STATUSES[result.status], result)
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


def _shown(finding: TestFinding) -> JsonObject:
    result = finding.result
    found: dict[str, Json] = {
        "status": finding.status.value,
        "cpu_s": round(result.cpu_s, 6),
        "wall_s": round(result.wall_s, 6),
        "memory_bytes": result.memory_bytes,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "stdout": _excerpt(result.stdout),
        "stderr": _excerpt(result.stderr),
    }
    if finding.difference is not None:
        difference = finding.difference
        found["difference"] = {
            "unit": difference.unit,
            "index": difference.index,
            "got": difference.got,
            "expected": difference.expected,
        }
    if finding.check is not None:
        check = finding.check
        found["checker"] = {"status": check.status.value, "exit_code": check.exit_code, "stderr": _excerpt(check.stderr)}
    return found


def _excerpt(data: bytes) -> str:
    return data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
