from __future__ import annotations

from typing import Any

import pytest

from reward_service.effects import Effects, Task
from reward_service.offline.explain import MEANINGS, Explanation, explain_rollout
from reward_service.records import (
    CodeReference,
    Group,
    LanguageFinding,
    MathReference,
    Outcome,
    ProgramTest,
    Reference,
    Rollout,
    Violation,
)
from reward_service.scoring.scheme import resolve_scheme
from sandbox.fake import FakeSandbox, FakeSession
from sandbox.interface import Job, RunResult, Status
from tests.effects_for_tests import DirectSandbox

FENCE = "```"


class Inline:
    """Runs tasks in this process."""

    async def run(self, task: Task[Any], *args: object) -> Any:
        return task.function(*args)


async def judge(rule: str, prompt: str, thinking: str, answer: str, wanted: str | None) -> LanguageFinding:
    found = {"rule": rule, "answer": {"language": "fr", "probability": 0.9}}
    return LanguageFinding(consistent="fr" in (wanted or prompt), detail=found)


def answer(job: Job, index: int) -> RunResult:
    if "crash" in job.source:
        return RunResult(index, Status.RUNTIME_ERROR, stderr=b"Traceback\nValueError: no\n", exit_code=1, cpu_s=0.012, memory_bytes=9 << 20)
    return RunResult(index, Status.FINISHED, stdout=b"3\n", exit_code=0, cpu_s=0.012, memory_bytes=9 << 20)


def effects() -> Effects:
    return Effects(Inline(), FakeSandbox(answer), judge)


async def explain(reference: Reference, completion: str, scheme: Any = "magistral", tokens: int | None = None) -> Explanation:
    task = "code" if isinstance(reference, CodeReference) else "math"
    group = Group("g", task, reference, (Rollout("7", completion, tokens),), prompt="en français")
    return await explain_rollout(group, resolve_scheme(scheme), effects())


def finding(explanation: Explanation, name: str) -> str:
    (found,) = [step.finding for step in explanation.steps if step.name == name]
    return found


def facts(explanation: Explanation, name: str) -> dict[str, str]:
    (found,) = [dict(step.facts) for step in explanation.steps if step.name == name]
    return found


MATH = MathReference(("4",))
CODE = CodeReference((ProgramTest("1 2\n", "3\n"), ProgramTest("20 22\n", "42\n"), ProgramTest("0 0\n", "0\n")))


async def test_a_right_answer_is_told_step_by_step() -> None:
    told = await explain(MATH, "<think>deux et deux</think>Donc $\\boxed{4}$", {"base": "magistral", "l_max": 8192}, tokens=6144)
    assert [step.name for step in told.steps] == [
        "reference", "split", "format gate", "final answer", "verifier", "language", "length", "reward",
    ]  # fmt: skip
    assert finding(told, "reference") == "math: equal to any of: 4"
    assert finding(told, "split") == "43 characters: 12 of thinking, 16 of answer"
    assert facts(told, "split")["tags"] == "<think> 1 times, </think> 1 times"
    assert finding(told, "format gate") == "passed"
    assert finding(told, "final answer") == "4"
    assert finding(told, "verifier") == "equal to the reference"
    assert finding(told, "language") == "all in one language"
    assert facts(told, "language") == {"rule": "refined", "answer": "language fr, probability 0.9"}
    assert finding(told, "length") == "6,144 tokens: -0.05; free up to 4,096, all lost from 8,192"
    assert finding(told, "reward") == "0.1 (format) + 0.9 (correctness: 0.9 x 1) + 0.1 (language) + -0.05 (length) = 1.05"
    assert told.grade.reward == 1.05


@pytest.mark.parametrize(
    ("completion", "violation"),
    [
        ("no tags", Violation.NO_OPENING_TAG),
        ("x <think></think>", Violation.TEXT_BEFORE_TAG),
        ("<think>", Violation.NO_CLOSING_TAG),
        ("<think></think></think>", Violation.REPEATED_TAG),
        ("<think>a</think>4", Violation.NO_BOXED_ANSWER),
    ],
)
async def test_a_violation_ends_the_way(completion: str, violation: Violation) -> None:
    told = await explain(MATH, completion)
    assert [step.name for step in told.steps] == ["reference", "split", "format gate", "reward"]
    assert MEANINGS[violation] in finding(told, "format gate")
    assert finding(told, "reward") == "0: the gate failed"


def test_every_violation_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Violation)


async def test_a_program_is_told_test_by_test() -> None:
    told = await explain(CODE, f"<think>a</think>\n{FENCE}python\nprint(3)\n{FENCE}")
    assert finding(told, "final answer") == "a code block in python, lines: 1"
    assert finding(told, "verifier") == "1 of 2 tests run passed; first failure: wrong_answer at test 1"
    told_tests = facts(told, "verifier")
    assert told_tests["test 0"] == "accepted, 12.0 ms CPU, 9.0 MiB"
    assert told_tests["test 1"] == "wrong_answer, 12.0 ms CPU, 9.0 MiB"
    assert told_tests["test 2"] == "not_run"
    assert told_tests["  input"] == "20 22\n"
    assert told_tests["  expected"] == "42\n"
    assert told_tests["  got"] == "3\n"
    assert told_tests["  first difference"] == "token 1: got '3', expected '42'"


async def test_a_crash_shows_its_error_output() -> None:
    told = await explain(CODE, f"<think>a</think>\n{FENCE}python\ncrash\n{FENCE}")
    assert facts(told, "verifier")["  error output"] == "Traceback\nValueError: no"
    assert facts(told, "verifier")["test 0"] == "runtime_error, 12.0 ms CPU, 9.0 MiB, exit code 1"
    assert told.grade.outcome is Outcome.INCORRECT


async def test_without_a_gate_nothing_found_is_incorrect() -> None:
    told = await explain(CODE, "nothing", "correctness-only")
    assert finding(told, "format gate") == "off in this scheme"
    assert finding(told, "final answer") == "none found"
    assert finding(told, "language") == "no language term in this scheme"
    assert finding(told, "length") == "no length term in this scheme (`l_max` is null)"
    assert told.grade.reward == 0


async def test_what_is_unscored_says_that_it_is_not_the_completions_fault() -> None:
    told = await explain(CodeReference(CODE.tests, languages=("cobol",)), f"<think>a</think>\n{FENCE}python\nx\n{FENCE}")
    assert told.grade.outcome is Outcome.UNSCORED
    assert "language_unavailable: no fault of the completion" in finding(told, "verifier")
    assert finding(told, "reward").startswith("null")


async def test_other_rollouts_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        await explain_rollout(Group("g", "math", MATH, ()), resolve_scheme("magistral"), effects())


async def test_a_call_is_told_with_its_arguments_and_what_came_back() -> None:
    calls = CodeReference((ProgramTest('{"args":[2]}', "4"),), function="f")
    sandbox = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"R\0\0\0\0i" + (5).to_bytes(8, "big")))
    group = Group("g", "code", calls, (Rollout("7", f"<think>a</think>\n{FENCE}python\nx\n{FENCE}"),), prompt="en français")
    told = await explain_rollout(group, resolve_scheme("magistral"), Effects(Inline(), sandbox, judge))
    assert finding(told, "reference").startswith("code: calls of f: 1 tests")
    found = facts(told, "verifier")
    assert (found["  input"], found["  expected"], found["  got"]) == ('{"args":[2]}', "4", "5")
    assert "got '5', expected '4'" in found["  first difference"]


async def test_a_failed_assert_is_told() -> None:
    def box(job: Job) -> FakeSession:
        at = job.source.rfind("run_asserts('''")
        said = b"L" if at < 0 else b"V" + job.source[at + 15 : at + 47].encode() + b"WAssertionError in line 1 of the asserts"
        return FakeSession([len(said).to_bytes(4, "big") + said])

    sandbox = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"ok"), talker=box)
    effects = Effects(Inline(), DirectSandbox(sandbox), judge)
    reference = CodeReference((), asserts="assert f(2) == 4")
    group = Group("g", "code", reference, (Rollout("7", f"<think>a</think>\n{FENCE}python\nx\n{FENCE}"),), prompt="en français")
    told = await explain_rollout(group, resolve_scheme("magistral"), effects)
    assert finding(told, "verifier") == "0 of 1 tests run passed; first failure: wrong_answer at test 0"
    assert facts(told, "verifier")["  why"] == "AssertionError in line 1 of the asserts"
