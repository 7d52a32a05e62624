"""The code verifier over scripted results: what stops, what is drawn, what a detail says, whose fault a failure is."""

from __future__ import annotations

import pytest

from reward_service.errors import LanguageUnavailable, NoSandbox
from reward_service.records import CheckerName, CodeBlock, CodeReference, DetailLevel, FloatTolerance, ProgramTest, Verdict
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code import CodeVerifier
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, Status
from tests.effects_for_tests import effects

ECHO = CodeBlock("python", "print(input())")
THREE = tuple(ProgramTest(str(n), str(n)) for n in range(3))


async def judge(
    reference: CodeReference, block: CodeBlock, sandbox: FakeSandbox, *, fraction: bool = False, detail: DetailLevel = DetailLevel.BRIEF
) -> Verdict:
    context = GroupContext("g", 0, fraction, detail)
    prepared = await CodeVerifier().prepare(reference, context, effects(sandbox))
    return await prepared(block)


async def test_all_tests_passed_is_correct() -> None:
    verdict = await judge(CodeReference(THREE), ECHO, FakeSandbox())
    assert verdict.correctness == 1.0
    assert verdict.brief == {"language": "python", "tests_run": 3, "tests_passed": 3, "first_failure": None}


async def test_the_first_failure_ends_it_and_is_named_by_its_place_in_tests() -> None:
    tests = (*THREE[:1], ProgramTest("1", "other"), *THREE[2:])
    sandbox = FakeSandbox()
    verdict = await judge(CodeReference(tests), ECHO, sandbox)
    assert verdict.correctness < 1.0
    assert verdict.brief["first_failure"] == {"index": 1, "status": "wrong_answer"}
    assert sandbox.results_taken == 2


async def test_a_fraction_runs_every_test() -> None:
    tests = (ProgramTest("0", "other"), *THREE[1:])
    verdict = await judge(CodeReference(tests), ECHO, FakeSandbox(), fraction=True)
    assert verdict.correctness == 2 / 3
    assert verdict.brief["tests_run"] == 3


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.FINISHED, Status.COMPILE_ERROR)])
async def test_every_way_to_fail_is_a_verdict_and_the_right_output_does_not_save_it(status: Status) -> None:
    sandbox = FakeSandbox(lambda job, index: RunResult(index, status, stdout=job.inputs[index].stdin))
    verdict = await judge(CodeReference(THREE), ECHO, sandbox)
    assert verdict.correctness == 0.0
    assert verdict.brief["first_failure"] == {"index": 0, "status": status.value}


async def test_a_compile_error_has_no_index_and_runs_nothing() -> None:
    sandbox = FakeSandbox(lambda job, index: RunResult(None, Status.COMPILE_ERROR, stderr=b"line 1: no"))
    verdict = await judge(CodeReference(THREE), ECHO, sandbox, detail=DetailLevel.FULL)
    assert verdict.brief == {
        "language": "python",
        "tests_run": 0,
        "tests_passed": 0,
        "first_failure": {"index": None, "status": "compile_error"},
    }
    assert verdict.full["diagnostics"] == "line 1: no"


@pytest.mark.parametrize("name", ["rust", "text", "c", "cpp"])
async def test_a_language_that_is_not_allowed_is_incorrect_and_never_runs(name: str) -> None:
    sandbox = FakeSandbox()
    verdict = await judge(CodeReference(THREE, languages=("python",)), CodeBlock(name, "x"), sandbox)
    assert verdict.correctness == 0.0
    assert verdict.brief["first_failure"] == {"index": None, "status": "language_not_allowed"}
    assert sandbox.jobs == []


@pytest.mark.parametrize("name", ["py", "Python3", "PYTHON"])
async def test_languages_as_people_write_them(name: str) -> None:
    verdict = await judge(CodeReference(THREE, languages=("python",)), CodeBlock(name, ECHO.source), FakeSandbox())
    assert verdict.correctness == 1.0
    assert verdict.brief["language"] == "python"


async def test_a_language_that_the_server_lacks_is_nobodys_wrong_answer() -> None:
    sandbox = FakeSandbox(languages=frozenset({"python"}))
    for languages in (("cpp",), ("python", "cpp"), ("rust",), None):
        with pytest.raises(LanguageUnavailable):
            await judge(CodeReference(THREE, languages=languages), ECHO, sandbox)


async def test_without_any_language_there_is_no_sandbox() -> None:
    with pytest.raises(NoSandbox):
        await judge(CodeReference(THREE), ECHO, FakeSandbox(languages=frozenset()))


async def test_every_rollout_of_a_group_runs_the_same_drawn_tests() -> None:
    tests = tuple(ProgramTest(str(n), str(n)) for n in range(100))
    sandbox = FakeSandbox()
    context = GroupContext("g", 0, False, DetailLevel.FULL)
    prepared = await CodeVerifier().prepare(CodeReference(tests, draw=20), context, effects(sandbox))
    first = await prepared(ECHO)
    second = await prepared(CodeBlock("cpp", "int main() {}"))
    assert first.full["drawn"] == second.full["drawn"]
    assert len(first.full["drawn"]) == 20  # type: ignore[arg-type]
    one, two = ([test.stdin for test in job.inputs] for job in sandbox.jobs)
    assert one == two == [str(index).encode() for index in first.full["drawn"]]  # type: ignore[union-attr]


async def test_expected_outputs_never_reach_the_sandbox() -> None:
    sandbox = FakeSandbox()
    await judge(CodeReference((ProgramTest("question", "secret-answer"),)), ECHO, sandbox)
    assert "secret-answer" not in repr(sandbox.jobs)


async def test_an_empty_expectation_passes_only_silence() -> None:
    quiet = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b" \n"))
    loud = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"0\n"))
    reference = CodeReference((ProgramTest("", ""),))
    assert (await judge(reference, ECHO, quiet)).correctness == 1.0
    assert (await judge(reference, ECHO, loud)).correctness == 0.0


@pytest.mark.parametrize(
    ("checker", "printed", "expected", "right"),
    [
        (CheckerName.TOKENS, b"1  2\n", "1 2", True),
        (CheckerName.EXACT, b"1  2\n", "1 2", False),
        (CheckerName.LINES, b"b\na\n", "a\nb\n", True),
        (FloatTolerance(1e-3, 0.0), b"1.0005", "1.0", True),
        (FloatTolerance(1e-3, 0.0), b"1.002", "1.0", False),
    ],
)
async def test_the_reference_chooses_its_checker(checker: CheckerName | FloatTolerance, printed: bytes, expected: str, right: bool) -> None:
    sandbox = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=printed))
    verdict = await judge(CodeReference((ProgramTest("", expected),), checker=checker), ECHO, sandbox)
    assert (verdict.correctness == 1.0) is right


async def test_output_may_be_twice_the_expected_and_some() -> None:
    long = "x" * 10_000_000
    sandbox = FakeSandbox()
    await judge(CodeReference((ProgramTest("", long), ProgramTest("", "y"))), ECHO, sandbox)
    assert [test.output_bytes for test in sandbox.jobs[0].inputs] == [20_065_536, 8_388_608]


async def test_full_detail_says_what_each_test_did_and_is_bounded() -> None:
    def answer(job: Job, index: int) -> RunResult:
        return RunResult(
            index, Status.FINISHED, stdout=b"0" * 100_000 if index == 1 else job.inputs[index].stdin, cpu_s=0.5, memory_bytes=7
        )

    block = CodeBlock("python", "#" * 100_000)
    verdict = await judge(CodeReference(THREE), block, FakeSandbox(answer), detail=DetailLevel.FULL)
    tests = verdict.full["tests"]
    assert [test["status"] for test in tests] == ["accepted", "wrong_answer", "not_run"]  # type: ignore[union-attr, index, call-overload]
    assert tests[0]["cpu_s"] == 0.5  # type: ignore[index, call-overload]
    assert len(repr(verdict.full)) < 10_000


async def test_the_seed_depends_on_the_program_alone() -> None:
    sandbox = FakeSandbox()
    for block in (ECHO, ECHO, CodeBlock("python", "other")):
        await judge(CodeReference(THREE), block, sandbox)
    seeds = [job.seed for job in sandbox.jobs]
    assert seeds[0] == seeds[1] != seeds[2]
