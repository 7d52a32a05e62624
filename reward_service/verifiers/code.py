"""The `code` task: runs a program on hidden tests in the sandbox and judges on this side what it answers.

Example: a Python block that prints the sum of its input, against `{"tests": [{"stdin": "1 2\\n", "stdout": "3\\n"}]}`.
"""

from __future__ import annotations

import asyncio

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
    TestStatus,
    Verdict,
)
from reward_service.scoring.programs.extract import without_idle_space
from reward_service.scoring.programs.testcases import digest_test_set, draw_tests
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code_findings import EXCERPT_CHARACTERS, DrawnTests, TestFinding, excerpt, shown
from reward_service.verifiers.code_runs import ProgramRun
from reward_service.verifiers.programs_by_call import LANGUAGE, AssertProgram, FunctionTests
from reward_service.verifiers.programs_by_input import ProgramTests
from sandbox.interface import RunResult, Status
from sandbox.languages import canonical_language


class CodeVerifier:
    """Judges programs by what they answer to drawn tests."""

    @property
    def answer_form(self) -> AnswerForm:
        """The first fenced code block with a language."""
        return AnswerForm.CODE_BLOCK

    async def prepare(self, reference: CodeReference, context: GroupContext, effects: Effects) -> CodeJudge:
        """Draw the group's tests, settle the languages and try what the reference brings before any completion is read.

        Raises:
            BadReference: what the reference brings cannot be used, or it names a test set that is not here (the server refuses such a
                request before).
            NoSandbox: the machine's fault.
            LanguageUnavailable: the server's fault: an allowed language, or the checker's, does not run here.
            NotScored: ours, while the reference is tried.
        """
        if reference.testset is not None:
            raise BadReference("a test set is named that nobody put in its place")
        allowed = _allowed(reference, effects)
        return CodeJudge(await _drawn_tests(reference, context, effects), allowed, context, effects)


async def _drawn_tests(reference: CodeReference, context: GroupContext, effects: Effects) -> DrawnTests:
    if reference.asserts is not None:
        return await AssertProgram.prepare(reference, effects)
    digest = reference.digest or await asyncio.to_thread(digest_test_set, reference.tests, reference.checker)
    drawn = draw_tests(len(reference.tests), reference.draw, context.group_id, digest, context.seed)
    if reference.function is not None:
        return await FunctionTests.prepare(reference, drawn, effects)
    return await ProgramTests.prepare(reference, drawn, effects)


def _allowed(reference: CodeReference, effects: Effects) -> frozenset[str]:
    names, available = reference.languages or effects.default_languages, effects.sandbox.languages
    if not available:
        raise NoSandbox("no program runs on this machine; `reward-service selftest` says why")
    allowed = {canonical_language(name) or name for name in names}
    if reference.function is not None or reference.asserts is not None:
        allowed &= {LANGUAGE}
        if not allowed:
            raise BadReference(f"calls and asserts are in {LANGUAGE}, which `languages` does not allow")
    missing = sorted(allowed - available)
    if missing:
        raise LanguageUnavailable(f"this server does not run {', '.join(missing)}")
    return frozenset(allowed)


class CodeJudge:
    """Judges the programs of one group on the same drawn tests."""

    def __init__(self, tests: DrawnTests, allowed: frozenset[str], context: GroupContext, effects: Effects) -> None:
        self._tests = tests
        self._effects = effects
        self._allowed = allowed
        self._context = context

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """The share of drawn tests passed, or 0 or 1 where the first failure ends it. Raises NotScored: ours."""
        assert isinstance(final_answer, CodeBlock)
        language = canonical_language(final_answer.language)
        if language is None or language not in self._allowed:
            return self._verdict(final_answer.language, final_answer, [_not_allowed()])
        source = without_idle_space(final_answer.source)
        run = ProgramRun(self._tests, language, source, self._effects, self._context.detail, share=self._context.fraction)
        return self._verdict(language, final_answer, await run.findings())

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
        return Verdict(passed / len(self._tests.drawn), brief, full)

    def _full(self, block: CodeBlock, findings: list[TestFinding]) -> JsonObject:
        drawn = self._tests.drawn
        known = {finding.index: shown(finding) for finding in findings if finding.index is not None}
        not_run: JsonObject = {"status": TestStatus.NOT_RUN.value}
        tests: list[Json] = [{"index": index, **known.get(index, not_run)} for index in drawn]
        diagnostics = next((excerpt(finding.result.stderr) for finding in findings if finding.index is None), None)
        return {"program": block.source[:EXCERPT_CHARACTERS], "drawn": list(drawn), "tests": tests, "diagnostics": diagnostics}


def _not_allowed() -> TestFinding:
    return TestFinding(None, TestStatus.LANGUAGE_NOT_ALLOWED, RunResult(None, Status.COMPILE_ERROR))
