"""The `code` task: runs the program on hidden tests in the sandbox and compares its outputs on this side.

Example: a Python block that prints the sum of its input, against `{"tests": [{"stdin": "1 2\\n", "stdout": "3\\n"}]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from reward_service.effects import Effects
from reward_service.errors import BadReference, LanguageUnavailable, NoSandbox
from reward_service.records import (
    AnswerForm,
    Checker,
    CodeBlock,
    CodeReference,
    DetailLevel,
    FinalAnswer,
    Json,
    JsonObject,
    ProgramTest,
    TestStatus,
    Verdict,
)
from reward_service.scoring.programs.checkers import Difference, compare_output
from reward_service.scoring.programs.testcases import digest_test_set, draw_tests, encode_text
from reward_service.verifiers.base import GroupContext
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
            LanguageUnavailable: the server's fault: an allowed language does not run here.
        """
        if reference.testset is not None:
            raise BadReference("a test set is named that nobody put in its place")
        allowed = _allowed(reference.languages or effects.default_languages, effects.sandbox.languages)
        digest = reference.digest or await asyncio.to_thread(digest_test_set, reference.tests, reference.checker)
        drawn = draw_tests(len(reference.tests), reference.draw, context.group_id, digest, context.seed)
        return CodeJudge(reference, allowed, drawn, context, effects)


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


class CodeJudge:
    """Judges the programs of one group on the same drawn tests."""

    def __init__(
        self, reference: CodeReference, allowed: frozenset[str], drawn: tuple[int, ...], context: GroupContext, effects: Effects
    ) -> None:
        self._reference = reference
        self._allowed = allowed
        self._drawn = drawn
        self._context = context
        self._effects = effects

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
        async with contextlib.aclosing(self._effects.sandbox.run(job)) as results:
            async for result in results:
                if result.index is None:
                    yield TestFinding(None, TestStatus.COMPILE_ERROR, result)
                    return
                finding = await _judge(self._reference.checker, tests[result.index], self._drawn[result.index], result)
                yield finding
                if finding.status is not TestStatus.ACCEPTED and not self._context.fraction:
                    return

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
    cap = max(OUTPUT_BYTES, 2 * len(encode_text(test.stdout)) + OUTPUT_SLACK_BYTES)
    return TestInput(encode_text(test.stdin), cap)


def _seed(source: str) -> int:
    return int.from_bytes(hashlib.sha256(source.encode("utf-8", "replace")).digest()[:8], "big")


async def _judge(checker: Checker, test: ProgramTest, index: int, result: RunResult) -> TestFinding:
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
    return found


def _excerpt(data: bytes) -> str:
    return data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
