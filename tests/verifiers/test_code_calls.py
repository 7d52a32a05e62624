"""Function tests and assert programs: the table on a real sandbox, and over scripted boxes whose fault a failure is."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reward_service.errors import BadReference
from reward_service.records import CodeBlock, CodeReference, DetailLevel, ProgramTest, TestStatus, Verdict
from reward_service.server.requests import read_request
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from reward_service.verifiers import programs_by_call
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code import CodeVerifier
from reward_service.verifiers.conversation import Ending
from sandbox.fake import FakeSandbox, FakeSession
from sandbox.interface import Job, RunResult, Status
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from tests.effects_for_tests import DirectSandbox, effects

ROOT = Path(__file__).parents[2]
ROWS = [json.loads(line) for line in (ROOT / "tests" / "cases" / "calls.jsonl").read_text().splitlines()]
CONTEXT = GroupContext("g", 0, False, DetailLevel.FULL)
BOUNDS = bounds_of(Settings())
on_a_sandbox = [pytest.mark.isolation, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[DirectSandbox]:
    backend = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable, packages=str(ROOT / ".runtime" / "python")))
    await backend.start()
    yield DirectSandbox(backend)
    await backend.close()


def reference_of(stated: Any) -> CodeReference:
    rollout = {"rollout_id": "0", "completion": "x"}
    group = {"group_id": "g", "task": "code", "reference": stated, "rollouts": [rollout]}
    found = read_request(json.dumps({"scheme": "correctness-only", "groups": [group]}).encode(), BOUNDS).groups[0].reference
    assert isinstance(found, CodeReference)
    return found


async def judged(sandbox: object, reference: CodeReference, program: str) -> Verdict:
    judge = await CodeVerifier().prepare(reference, CONTEXT, effects(sandbox))
    return await judge(CodeBlock("python", program))


class TestTable:
    pytestmark = on_a_sandbox

    @pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in ROWS])
    async def test_verdict(self, sandbox: DirectSandbox, row: Any) -> None:
        reference = reference_of(row["reference"])
        if row["outcome"] == "bad_reference":
            with pytest.raises(BadReference):
                await judged(sandbox, reference, row["program"])
            return
        verdict = await judged(sandbox, reference, row["program"])
        assert ("correct" if verdict.correctness == 1.0 else "incorrect") == row["outcome"], verdict.full
        failure: Any = verdict.brief["first_failure"]
        if "status" in row:
            assert failure["status"] == row["status"], verdict.full
        if "index" in row:
            assert failure["index"] == row["index"]

    @pytest.mark.parametrize("id", ["fn-sum", "as-check", "as-check-wrong", "as-prelude-raises"])
    async def test_an_interpreter_of_another_version_reads_the_drivers_text(
        self, sandbox: DirectSandbox, id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\0\0\r\n")
        monkeypatch.setattr(programs_by_call, "driver_files", programs_by_call.driver_files.__wrapped__)
        await self.test_verdict(sandbox, next(row for row in ROWS if row["id"] == id))

    async def test_a_detail_says_where_a_result_is_wrong(self, sandbox: DirectSandbox) -> None:
        reference = reference_of({"function": "f", "tests": [{"args": [], "expected": {"a": [1, 2]}}]})
        verdict = await judged(sandbox, reference, "def f():\n    return {'a': (1, 3)}\n")
        test: Any = verdict.full["tests"][0]  # type: ignore[index, call-overload]
        assert test["difference"] == {"unit": "value", "index": "['a'][1]", "got": "3", "expected": "2"}
        assert test["stdout"] == "{'a': (1, 3)}"

    async def test_a_detail_shows_the_programs_own_lines(self, sandbox: DirectSandbox) -> None:
        reference = reference_of({"function": "f", "tests": [{"args": [0], "expected": 1}]})
        verdict = await judged(sandbox, reference, "def f(n):\n    return 1 // n\n")
        test: Any = verdict.full["tests"][0]  # type: ignore[index, call-overload]
        assert "line 2, in f\n    return 1 // n\n" in test["stderr"]
        assert "driver" not in test["stderr"]

    async def test_a_detail_says_which_assert_failed(self, sandbox: DirectSandbox) -> None:
        verdict = await judged(sandbox, CodeReference((), asserts="assert f(1) == 1\nassert f(2) == 4, 'two'"), "def f(n):\n    return n\n")
        test: Any = verdict.full["tests"][0]  # type: ignore[index, call-overload]
        assert test["message"] == "AssertionError in line 2 of the asserts: two"
        assert verdict.brief == {
            "language": "python",
            "tests_run": 1,
            "tests_passed": 0,
            "first_failure": {"index": 0, "status": "wrong_answer"},
        }


# ---- over scripted boxes ---------------------------------------------------------------------------------------------

SECRET = "a-value-that-is-expected"
FUNCTION = CodeReference((ProgramTest('{"args":[1]}', json.dumps(SECRET)),), function="f")
ASSERTS = CodeReference((), asserts=f"assert f(1) == {SECRET!r}", prelude="import math")
PROGRAM = "def f(n):\n    return n\n"


def prepared(job: Job, index: int) -> RunResult:
    return RunResult(index, Status.FINISHED, stdout=b"ok")


def boxes(candidate: FakeSession | RunResult, asserts: Callable[[str], FakeSession | RunResult]) -> FakeSandbox:
    """The candidate's box, and the asserts' by the nonce of the run."""

    def talker(job: Job) -> FakeSession | RunResult:
        at = job.source.rfind("run_asserts('''")
        return candidate if at < 0 else asserts(job.source[at + 15 : at + 47])

    return FakeSandbox(prepared, talker=talker)


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def saying(*bodies: bytes, **more: Any) -> FakeSession:
    return FakeSession([frame(body) for body in bodies], **more)


def passing(nonce: str) -> FakeSession:
    return saying(b"V" + nonce.encode() + b"P")


async def test_expected_values_never_reach_the_candidates_box() -> None:
    sandbox = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"R\0\0\0\0N"))
    await judged(DirectSandbox(sandbox), FUNCTION, PROGRAM)
    assert [job for job in sandbox.jobs if PROGRAM in job.source]
    assert SECRET not in repr(sandbox.jobs)


async def test_asserts_never_reach_the_candidates_box() -> None:
    sandbox = boxes(saying(b"L"), passing)
    await judged(DirectSandbox(sandbox), ASSERTS, PROGRAM)
    theirs = [job for job in sandbox.jobs if PROGRAM in job.source]
    assert len(theirs) == 1
    assert SECRET not in repr(theirs)
    assert [job for job in sandbox.jobs if SECRET in job.source]
    assert all(PROGRAM not in job.source for job in sandbox.jobs if SECRET in job.source)


async def test_a_verdict_passes() -> None:
    assert (await judged(DirectSandbox(boxes(saying(b"L"), passing)), ASSERTS, PROGRAM)).correctness == 1.0


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.FINISHED])
async def test_a_program_that_does_not_end_well_does_not_pass(status: Status) -> None:
    candidate = saying(b"L", result=RunResult(0, status))
    assert (await judged(DirectSandbox(boxes(candidate, passing)), ASSERTS, PROGRAM)).correctness == 0.0


@pytest.mark.parametrize(
    "verdict",
    [b"", b"P", b"V", b"VP", b"V" + b"0" * 32 + b"P", b"M", b"V" + b"0" * 31 + b"PP"],
    ids=["empty", "letter", "nothing", "no-nonce", "another-nonce", "message", "short-nonce"],
)
async def test_what_is_no_verdict_with_this_runs_nonce_passes_nothing(verdict: bytes) -> None:
    sandbox = boxes(saying(b"L"), lambda nonce: saying(verdict))
    assert (await judged(DirectSandbox(sandbox), ASSERTS, PROGRAM)).correctness == 0.0


@pytest.mark.parametrize(
    ("letter", "status"), [(b"W", "wrong_answer"), (b"R", "runtime_error"), (b"X", "wrong_answer"), (b"", "wrong_answer")]
)
async def test_only_one_letter_passes(letter: bytes, status: str) -> None:
    sandbox = boxes(saying(b"L"), lambda nonce: saying(b"V" + nonce.encode() + letter))
    verdict = await judged(DirectSandbox(sandbox), ASSERTS, PROGRAM)
    assert verdict.brief["first_failure"] == {"index": 0, "status": status}


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (Status.FINISHED, "runtime_error"),
        (Status.RUNTIME_ERROR, "runtime_error"),
        (Status.TIME_LIMIT_EXCEEDED, "time_limit_exceeded"),
        (Status.MEMORY_LIMIT_EXCEEDED, "memory_limit_exceeded"),
    ],
)
async def test_asserts_that_end_without_a_verdict_are_the_programs_failure(ended: Status, status: str) -> None:
    sandbox = boxes(saying(b"L"), lambda nonce: saying(result=RunResult(0, ended)))
    verdict = await judged(DirectSandbox(sandbox), ASSERTS, PROGRAM)
    assert verdict.brief["first_failure"] == {"index": 0, "status": status}


@pytest.mark.parametrize(
    "answer",
    [b"V" + b"0" * 32 + b"P", b"L", b"X", b""],
    ids=["verdict", "loaded", "unknown", "empty"],
)
async def test_what_a_program_sends_is_a_message_or_its_failure(answer: bytes) -> None:
    """Were it passed on, the asserts' box would go on to its verdict."""

    def asserts(nonce: str) -> FakeSession:
        return FakeSession([frame(b"M")], reply=lambda data: [frame(b"V" + nonce.encode() + b"P")])

    candidate = FakeSession([frame(b"L")], reply=lambda data: [frame(answer)])
    assert (await judged(DirectSandbox(boxes(candidate, asserts)), ASSERTS, PROGRAM)).correctness == 0.0
    good = FakeSession([frame(b"L")], reply=lambda data: [frame(b"M")])
    assert (await judged(DirectSandbox(boxes(good, asserts)), ASSERTS, PROGRAM)).correctness == 1.0


async def test_frames_may_come_in_pieces() -> None:
    pieces = [bytes([byte]) for byte in frame(b"L")]
    sandbox = boxes(FakeSession(pieces), lambda nonce: FakeSession([bytes([byte]) for byte in frame(b"V" + nonce.encode() + b"P")]))
    assert (await judged(DirectSandbox(sandbox), ASSERTS, PROGRAM)).correctness == 1.0


async def test_a_frame_beyond_all_bounds_is_not_waited_for() -> None:
    candidate = FakeSession([struct.pack(">I", 0x7FFFFFFF) + b"L"])
    assert (await judged(DirectSandbox(boxes(candidate, passing)), ASSERTS, PROGRAM)).correctness == 0.0


async def test_a_program_that_does_not_compile_has_no_index() -> None:
    verdict = await judged(DirectSandbox(boxes(saying(b"SSyntaxError: no"), passing)), ASSERTS, PROGRAM)
    assert verdict.brief["first_failure"] == {"index": None, "status": "compile_error"}
    assert verdict.full["diagnostics"] == "SyntaxError: no"


@pytest.mark.parametrize(
    "result",
    [
        RunResult(0, Status.FINISHED, stdout=b"SyntaxError"),
        RunResult(0, Status.FINISHED),
        RunResult(0, Status.TIME_LIMIT_EXCEEDED, stdout=b"ok"),
    ],
)
async def test_a_reference_that_cannot_be_prepared_is_bad_before_any_program_runs(result: RunResult) -> None:
    sandbox = FakeSandbox(lambda job, index: result)
    for reference in (ASSERTS, CodeReference(FUNCTION.tests, function="f", prelude="import math")):
        with pytest.raises(BadReference):
            await CodeVerifier().prepare(reference, CONTEXT, effects(DirectSandbox(sandbox)))
    assert all(PROGRAM not in job.source for job in sandbox.jobs)


async def test_a_conversation_that_was_too_slow_is_held_once_more_whatever_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program does after it has started must not leave it without a verdict."""
    starts: list[tuple[bool, bool]] = []

    class Recording(DirectSandbox):
        async def talk(self, conversation: Any, *jobs: Job, started: bool = False, wanted: Any = lambda: True) -> Any:
            starts.append((started, jobs[0].alone))
            return await super().talk(conversation, *jobs, started=started, wanted=wanted)

    async def slow(*_: object) -> Ending:
        return Ending(status=TestStatus.TIME_LIMIT_EXCEEDED, late=True)

    monkeypatch.setattr(programs_by_call, "converse", slow)
    verdict = await judged(Recording(boxes(saying(b"L"), passing)), ASSERTS, PROGRAM)
    assert starts == [(False, False), (True, True)]
    assert verdict.brief["first_failure"] == {"index": 0, "status": "time_limit_exceeded"}


@pytest.mark.parametrize("reference", [FUNCTION, ASSERTS])
async def test_calls_and_asserts_are_in_python(reference: CodeReference) -> None:
    sandbox = boxes(saying(b"L"), passing)
    judge = await CodeVerifier().prepare(reference, CONTEXT, effects(DirectSandbox(sandbox)))
    verdict = await judge(CodeBlock("cpp", "int f(int n) { return n; }"))
    assert verdict.brief["first_failure"] == {"index": None, "status": "language_not_allowed"}


@pytest.mark.parametrize("reference", [FUNCTION, ASSERTS])
async def test_a_server_without_cpp_judges_them(reference: CodeReference) -> None:
    sandbox = FakeSandbox(prepared, languages=frozenset({"python"}), talker=lambda job: saying(b"L"))
    await CodeVerifier().prepare(reference, CONTEXT, effects(DirectSandbox(sandbox)))


async def test_languages_without_python_are_a_bad_reference() -> None:
    with pytest.raises(BadReference):
        await CodeVerifier().prepare(CodeReference(FUNCTION.tests, function="f", languages=("cpp",)), CONTEXT, effects(FakeSandbox()))


@pytest.mark.parametrize(
    "stdout",
    [b"", b"R", b"R\0\0\0\0", b"R\0\0\0\0Tx", b"T", b"R\0\0\0\0T" * 2, b"R\0\0\0\1N"],
    ids=["nothing", "no-value", "no-root", "more", "no-frame", "two", "entry-missing"],
)
async def test_a_result_is_exactly_one_frame(stdout: bytes) -> None:
    reference = CodeReference((ProgramTest('{"args":[]}', "true"),), function="f")
    wrong = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=stdout))
    assert (await judged(DirectSandbox(wrong), reference, PROGRAM)).correctness == 0.0
    right = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"R\0\0\0\0T"))
    assert (await judged(DirectSandbox(right), reference, PROGRAM)).correctness == 1.0


async def test_a_right_result_of_a_program_that_failed_is_none() -> None:
    reference = CodeReference((ProgramTest('{"args":[]}', "true"),), function="f")
    for status in (Status.RUNTIME_ERROR, Status.TIME_LIMIT_EXCEEDED, Status.MEMORY_LIMIT_EXCEEDED):
        sandbox = FakeSandbox(lambda job, index, status=status: RunResult(index, status, stdout=b"R\0\0\0\0T"))  # type: ignore[misc]
        assert (await judged(DirectSandbox(sandbox), reference, PROGRAM)).correctness == 0.0


async def test_an_expected_value_that_no_result_can_reach_is_a_bad_reference() -> None:
    deep = "[" * 202 + "]" * 202
    with pytest.raises(BadReference):
        await judged(DirectSandbox(FakeSandbox()), CodeReference((ProgramTest('{"args":[]}', deep),), function="f"), PROGRAM)
