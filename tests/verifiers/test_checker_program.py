"""Checkers that are programs: every row in the sandbox, and the glue over scripted results."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reward_service.errors import BadReference, LanguageUnavailable, NotScored, WorkerLost
from reward_service.records import CheckerProtocol, CodeBlock, CodeReference, DetailLevel, ProgramChecker, ProgramTest, Verdict
from reward_service.server.requests import read_test_set
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from reward_service.verifiers import checker_program
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code import CodeVerifier
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, Limits, RunResult, Status
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from tests.effects_for_tests import Choose, DirectSandbox, effects

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "checker_programs.jsonl").read_text().splitlines()]
BOUNDS = bounds_of(Settings())
KATTIS = ProgramChecker("cpp", CheckerProtocol.KATTIS, "check.cc", (("check.cc", "CHECKER"), ("x.h", "header")), ("strict",))
CANDIDATE = CodeBlock("python", "CANDIDATE")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boxed() -> AsyncIterator[DirectSandbox]:
    backend = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable))
    await backend.start()
    yield DirectSandbox(backend)
    await backend.close()


async def judged(
    reference: CodeReference, block: CodeBlock, sandbox: object, *, fraction: bool = False, detail: DetailLevel = DetailLevel.BRIEF
) -> Verdict:
    prepared = await CodeVerifier().prepare(reference, GroupContext("g", 0, fraction, detail), effects(sandbox))
    return await prepared(block)


async def found(reference: CodeReference, block: CodeBlock, sandbox: object) -> str:
    """The first failure's status, or why there is none."""
    try:
        failure: Any = (await judged(reference, block, sandbox)).brief["first_failure"]
    except NotScored as error:
        return error.reason.value
    return "accepted" if failure is None else str(failure["status"])


# ---- in the sandbox --------------------------------------------------------------------------------------------------


@pytest.mark.isolation
@pytest.mark.compiler
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in ROWS])
async def test_rows(row: Any, boxed: DirectSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_program, "CHECKER_LIMITS", Limits(cpu_s=1.0, memory_bytes=1 << 28, compile_s=60.0))
    reference = read_test_set(json.dumps({"tests": [row["test"]], "checker": row["checker"]}).encode(), BOUNDS)
    printed = row["got"].encode("utf-8", "surrogateescape")
    block = CodeBlock("python", f"import sys\nsys.stdout.buffer.write({printed!r})\n")
    assert await found(reference, block, boxed) == row["verdict"]


# ---- over scripted results -------------------------------------------------------------------------------------------


class Scripted(FakeSandbox):
    """Candidates print their input; a checker takes an output that starts with the answer. Says which jobs had started."""

    def __init__(self, check: Callable[[Job, int], RunResult] | None = None, **options: Any) -> None:
        super().__init__(lambda job, index: self._result(job, index), **options)
        self._check = check or self._compared
        self.candidates: list[tuple[int, bool]] = []  # (inputs, started)
        self.checks: list[tuple[int, bool]] = []

    def _result(self, job: Job, index: int) -> RunResult:
        if job.source == "CHECKER":
            return self._check(job, index)
        return RunResult(index, Status.FINISHED, stdout=job.inputs[index].stdin, exit_code=0)

    def _compared(self, job: Job, index: int) -> RunResult:
        given = job.inputs[index]
        right = given.stdin.startswith(given.files["answer"])
        return RunResult(index, Status.RUNTIME_ERROR, exit_code=42 if right else 43, stderr=b"said so")

    async def run(self, job: Job, *, started: bool = False, choose: Choose | None = None) -> AsyncGenerator[RunResult, None]:
        known = len(self.jobs)
        async for result in super().run(job, started=started, choose=choose):
            if len(self.jobs) > known:
                known = len(self.jobs)
                self._note(self.jobs[-1], started)
            yield result

    def _note(self, job: Job, started: bool) -> None:
        if job.source == "CHECKER":
            self.checks.append((len(job.inputs), started))
        else:
            self.candidates.append((len(job.inputs), started))


def numbered(count: int, wrong: frozenset[int] = frozenset()) -> tuple[ProgramTest, ...]:
    return tuple(ProgramTest(f"{n}", "no" if n in wrong else f"{n}") for n in range(count))


def honest(job: Job, index: int) -> RunResult:
    """Takes everything while the reference is prepared, compares afterwards (an answer "no" is what no candidate prints)."""
    given = job.inputs[index]
    right = given.stdin == given.files["answer"]
    return RunResult(index, Status.RUNTIME_ERROR, exit_code=42 if right else 43)


async def test_what_a_checker_is_given_and_a_candidate_never_sees() -> None:
    sandbox = Scripted()
    await judged(CodeReference((ProgramTest("in", "secret"),), KATTIS), CANDIDATE, sandbox)
    proof, candidate, check = sandbox.jobs
    assert (proof.inputs[0].stdin, dict(proof.inputs[0].files)) == (b"secret", {"input": b"in", "answer": b"secret"})
    assert (check.inputs[0].stdin, dict(check.inputs[0].files)) == (b"in", {"input": b"in", "answer": b"secret"})
    assert check.language == "cpp"
    assert dict(check.files) == {"x.h": b"header"}
    assert check.arguments == ("input", "answer", "./", "strict")
    assert (candidate.files, candidate.inputs[0].files, candidate.arguments) == ({}, {}, ())
    assert b"secret" not in repr(candidate).encode()


async def test_testlib_gets_three_files() -> None:
    sandbox = Scripted(lambda job, index: RunResult(index, Status.FINISHED, exit_code=0))
    checker = KATTIS._replace(protocol=CheckerProtocol.TESTLIB)
    verdict = await judged(CodeReference((ProgramTest("in", "out"),), checker), CANDIDATE, sandbox)
    check = sandbox.jobs[-1]
    assert verdict.correctness == 1.0
    assert check.arguments == ("input", "output", "answer", "strict")
    assert (check.inputs[0].stdin, dict(check.inputs[0].files)) == (b"", {"input": b"in", "output": b"in", "answer": b"out"})


async def test_outputs_are_looked_at_in_growing_batches_that_end_at_the_first_failure() -> None:
    sandbox = Scripted(honest)
    reference = CodeReference(numbered(100, wrong=frozenset({30})), KATTIS)
    verdict = await judged(reference, CANDIDATE, sandbox)
    assert verdict.brief["first_failure"] == {"index": 30, "status": "wrong_answer"}
    assert verdict.brief["tests_run"] == 31
    assert [count for count, _ in sandbox.candidates] == [4, 16, 64]
    assert len({job.seed for job in sandbox.jobs if job.source != "CHECKER"}) == 1  # an input's seed does not depend on the batches


async def test_what_has_started_is_no_more_bound_by_the_deadline() -> None:
    sandbox = Scripted()
    await judged(CodeReference(numbered(6), KATTIS), CANDIDATE, sandbox)
    assert sandbox.checks == [(6, False), (4, True), (2, True)]
    assert [started for _, started in sandbox.candidates] == [False, True]


async def test_a_fraction_counts_every_test() -> None:
    sandbox = Scripted(honest)
    verdict = await judged(CodeReference(numbered(50, wrong=frozenset({3, 30})), KATTIS), CANDIDATE, sandbox, fraction=True)
    assert verdict.correctness == 48 / 50
    assert verdict.brief["tests_run"] == 50


async def test_outputs_that_are_held_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_program, "HELD_BYTES", 100)  # two outputs of 90
    monkeypatch.setattr(checker_program, "BATCH_BYTES", 600)  # two outputs with input and answer
    sandbox = Scripted()
    verdict = await judged(CodeReference(tuple(ProgramTest(f"{n:090}", f"{n:090}") for n in range(9)), KATTIS), CANDIDATE, sandbox)
    assert verdict.correctness == 1.0
    assert [count for count, _ in sandbox.checks] == [2, 2, 2, 2, 1] * 2


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.FINISHED, Status.COMPILE_ERROR)])
async def test_a_program_that_fails_is_not_checked(status: Status) -> None:
    sandbox = Scripted()
    sandbox._result = lambda job, index: (  # type: ignore[method-assign]
        sandbox._compared(job, index) if job.source == "CHECKER" else RunResult(index, status if index == 1 else Status.FINISHED, b"0")
    )
    verdict = await judged(CodeReference(numbered(3), KATTIS), CANDIDATE, sandbox)
    assert verdict.brief["first_failure"] == {"index": 1, "status": status.value}
    assert sandbox.checks[1:] == [(1, True)]


async def test_a_program_that_does_not_compile_is_not_checked() -> None:
    sandbox = Scripted()
    sandbox._result = lambda job, index: (  # type: ignore[method-assign]
        sandbox._compared(job, index) if job.source == "CHECKER" else RunResult(None, Status.COMPILE_ERROR)
    )
    verdict = await judged(CodeReference(numbered(3), KATTIS), CANDIDATE, sandbox)
    assert verdict.brief["first_failure"] == {"index": None, "status": "compile_error"}
    assert len(sandbox.checks) == 1


async def test_a_reference_that_its_own_checker_rejects_is_bad_before_any_candidate_runs() -> None:
    sandbox = Scripted(lambda job, index: RunResult(index, Status.RUNTIME_ERROR, exit_code=43 if index == 2 else 42))
    with pytest.raises(BadReference, match="drawn test 2"):
        await judged(CodeReference(numbered(3), KATTIS), CANDIDATE, sandbox)
    assert sandbox.candidates == []


async def test_a_checker_in_a_language_that_is_missing_here_is_the_servers_fault() -> None:
    with pytest.raises(LanguageUnavailable, match="cpp"):
        await judged(CodeReference(numbered(3), KATTIS, languages=("python",)), CANDIDATE, Scripted(languages=frozenset({"python"})))


async def test_a_checker_that_compiles_no_more_is_no_verdict() -> None:
    sandbox = Scripted()
    sandbox._check = lambda job, index: sandbox._compared(job, index) if len(sandbox.jobs) == 1 else RunResult(None, Status.COMPILE_ERROR)
    with pytest.raises(WorkerLost):
        await judged(CodeReference(numbered(3), KATTIS), CANDIDATE, sandbox)


async def test_a_test_that_no_checker_could_be_given_is_a_bad_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_program, "MAX_INPUT_FILES_BYTES", 8_388_608 + 9)
    reference = CodeReference((ProgramTest("12345", "12345"),), KATTIS)
    with pytest.raises(BadReference, match="too large"):
        await judged(reference, CANDIDATE, Scripted())


async def test_detail_full_says_what_the_checker_did() -> None:
    verdict = await judged(CodeReference(numbered(1), KATTIS), CANDIDATE, Scripted(), detail=DetailLevel.FULL)
    assert verdict.full["tests"][0]["checker"] == {"status": "runtime_error", "exit_code": 42, "stderr": "said so"}  # type: ignore[index,call-overload]
