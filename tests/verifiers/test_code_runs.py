"""Nothing run twice, nothing run in vain, and every grade the same: over scripted programs, and on a real sandbox."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_service.effects import Economy
from reward_service.errors import WorkerLost
from reward_service.records import (
    CheckerName,
    CheckerProtocol,
    CodeBlock,
    CodeReference,
    DetailLevel,
    FloatTolerance,
    ProgramChecker,
    ProgramLimits,
    ProgramTest,
    Verdict,
)
from reward_service.verdict_memory import VerdictMemory
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code import CodeVerifier
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, Status
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from tests.effects_for_tests import Choose, DirectSandbox, effects

NO_ECONOMY = Economy(stop_early=False, failed_first=False, join=False)
KATTIS = ProgramChecker("cpp", CheckerProtocol.KATTIS, "check.cc", (("check.cc", "CHECKER"),))


class Machine(FakeSandbox):
    """Programs that answer by a table, two at a time; a checker that compares. `runs` counts (program, input)."""

    def __init__(self, slots: int = 2) -> None:
        super().__init__(self._run)
        self.runs: Counter[tuple[str, bytes]] = Counter()
        self._turns = asyncio.Semaphore(slots)
        self._busy: Counter[str] = Counter()
        self.beside_itself = 0

    def _run(self, job: Job, index: int) -> RunResult:
        given = job.inputs[index]
        if job.source == "CHECKER":
            right = given.stdin == given.files["answer"] or b"!" in given.files["answer"]
            return RunResult(index, Status.RUNTIME_ERROR, exit_code=42 if right else 43)
        self.runs[job.source, given.stdin] += 1
        return behaviour(job.source.strip(), given.stdin, index)

    async def run(self, job: Job, *, started: bool = False, choose: Choose | None = None) -> AsyncGenerator[RunResult, None]:
        async with self._turns:
            chosen = tuple(range(len(job.inputs)) if choose is None else choose())
            self.beside_itself += bool(chosen and self._busy[job.source])
            self._busy[job.source] += bool(chosen)
            try:
                async for result in super().run(job, started=started, choose=lambda: chosen):
                    yield result
            finally:
                self._busy[job.source] -= bool(chosen)


def behaviour(source: str, stdin: bytes, index: int) -> RunResult:
    """`echo` answers rightly; `wrong:2,5` fails there, each in a way of its own; `broken` does not compile."""
    if source == "broken":
        return RunResult(None, Status.COMPILE_ERROR)
    if source.startswith("wrong:") and stdin.decode() in source.removeprefix("wrong:").split(","):
        status = (Status.FINISHED, Status.RUNTIME_ERROR, Status.TIME_LIMIT_EXCEEDED)[int(stdin) % 3]
        return RunResult(index, status, b"?", cpu_s=5.0)
    return RunResult(index, Status.FINISHED, stdin, exit_code=0)


async def graded(
    reference: CodeReference,
    programs: list[str],
    machine: object,
    *,
    economy: Economy | None = None,
    memory: VerdictMemory | None = None,
    fraction: bool = False,
    detail: DetailLevel = DetailLevel.BRIEF,
    at_once: bool = True,
    group: str = "g",
) -> list[Verdict]:
    given = dataclasses.replace(effects(machine), economy=economy or Economy(), memory=memory or VerdictMemory())
    judge = await CodeVerifier().prepare(reference, GroupContext(group, 0, fraction, detail), given)
    blocks = [CodeBlock("python", program) for program in programs]
    if at_once:
        return await asyncio.gather(*(judge(block) for block in blocks))
    return [await judge(block) for block in blocks]


def numbered(count: int) -> tuple[ProgramTest, ...]:
    return tuple(ProgramTest(str(n), str(n)) for n in range(count))


PROGRAMS = st.one_of(
    st.sampled_from(["echo", "broken", "echo ", "echo\n\n"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4).map(lambda places: "wrong:" + ",".join(map(str, places))),
)
TESTS = st.lists(st.integers(0, 9), min_size=1, max_size=14).map(lambda numbers: tuple(ProgramTest(str(n), str(n)) for n in numbers))


class TestTheSameGrades:
    @settings(max_examples=60)
    @given(
        tests=TESTS,
        draw=st.one_of(st.none(), st.integers(1, 6)),
        programs=st.lists(PROGRAMS, min_size=1, max_size=8),
        fraction=st.booleans(),
        checker=st.sampled_from([CheckerName.TOKENS, KATTIS]),
        detail=st.sampled_from(DetailLevel),
    )
    def test_with_each_of_them_switched_off_and_on(
        self, tests: tuple[ProgramTest, ...], draw: int | None, programs: list[str], fraction: bool, checker: object, detail: DetailLevel
    ) -> None:
        reference = CodeReference(tests, checker, draw=draw)  # type: ignore[arg-type]

        async def correctness(economy: Economy, memory: VerdictMemory, group: str = "g") -> list[float]:
            verdicts = await graded(
                reference, programs, Machine(), economy=economy, memory=memory, fraction=fraction, detail=detail, group=group
            )
            shares = [verdict.correctness for verdict in verdicts]
            return shares if fraction else [float(share == 1.0) for share in shares]

        async def compare() -> None:
            plain = await correctness(NO_ECONOMY, VerdictMemory(0))
            for switches in itertools.product([False, True], repeat=3):
                for limit_bytes in (0, 700, 1 << 20):  # nothing, two or three entries, everything
                    memory = VerdictMemory(limit_bytes)
                    assert await correctness(Economy(*switches), memory) == plain
                    assert await correctness(Economy(*switches), memory) == plain, "the second time"
                    other = await correctness(Economy(*switches), memory, group="h")  # draws other tests
                    assert other == await correctness(NO_ECONOMY, VerdictMemory(0), group="h")

        asyncio.run(compare())


class TestNothingTwice:
    async def test_the_same_program_runs_once_in_a_group(self) -> None:
        machine = Machine()
        verdicts = await graded(CodeReference(numbered(5)), ["echo", "echo  ", "echo\n\n\n", "echo"] * 4, machine)
        assert [verdict.correctness for verdict in verdicts] == [1.0] * 16
        assert sum(machine.runs.values()) == 5

    async def test_no_program_runs_beside_itself_unless_that_is_switched_off(self) -> None:
        machine, other = Machine(), Machine()
        await graded(CodeReference(numbered(5)), ["echo"] * 4, machine, memory=VerdictMemory(0))
        await graded(CodeReference(numbered(5)), ["echo"] * 4, other, memory=VerdictMemory(0), economy=Economy(join=False))
        assert (machine.beside_itself, sum(machine.runs.values())) == (0, 5)
        assert other.beside_itself > 0

    async def test_another_group_with_another_draw_runs_only_what_is_new(self) -> None:
        machine, memory = Machine(), VerdictMemory()
        reference = CodeReference(numbered(30), draw=20)
        for group in "abcdefgh":
            await graded(reference, ["echo"], machine, memory=memory, group=group)
        assert set(machine.runs.values()) == {1}
        assert len(machine.runs) > 20

    async def test_a_test_that_is_there_twice_runs_once_and_counts_twice(self) -> None:
        machine = Machine()
        tests = (*numbered(2), *numbered(2))
        (verdict,) = await graded(CodeReference(tests), ["wrong:1"], machine, fraction=True)
        assert verdict.correctness == 0.5
        assert verdict.brief["tests_run"] == 4
        assert sum(machine.runs.values()) == 2

    async def test_a_compile_error_is_known_for_every_test(self) -> None:
        machine, memory = Machine(), VerdictMemory()
        for group in "ab":
            verdict = (await graded(CodeReference(numbered(30), draw=5), ["broken"], machine, memory=memory, group=group))[0]
            assert verdict.brief["first_failure"] == {"index": None, "status": "compile_error"}
        assert len(machine.jobs) == 1

    @pytest.mark.parametrize(
        "other",
        [
            CodeReference(numbered(1), CheckerName.EXACT),
            CodeReference(numbered(1), FloatTolerance()),
            CodeReference(numbered(1), limits=ProgramLimits(cpu_s=5.0)),
            CodeReference(numbered(1), limits=ProgramLimits(memory_bytes=1 << 28)),
            CodeReference(numbered(1), limits=ProgramLimits(compile_s=9.0)),
            CodeReference((ProgramTest("0", "1"),)),
            CodeReference((ProgramTest("0 ", "0"),)),
            CodeReference((ProgramTest("00", ""),)),
        ],
    )
    async def test_what_decides_differently_is_not_the_same(self, other: CodeReference) -> None:
        machine, memory = Machine(), VerdictMemory()
        await graded(CodeReference(numbered(1)), ["echo"], machine, memory=memory)
        await graded(other, ["echo"], machine, memory=memory)
        assert sum(machine.runs.values()) == 2

    async def test_another_tool_chain_decides_anew(self) -> None:
        machine, memory = Machine(), VerdictMemory()
        for tool_chain in ("g++ 12", "g++ 13", "g++ 12"):
            memory.tool_chain = tool_chain
            await graded(CodeReference(numbered(1)), ["echo"], machine, memory=memory)
        assert sum(machine.runs.values()) == 2

    async def test_tolerances_are_told_apart(self) -> None:
        machine, memory = Machine(), VerdictMemory()
        tests = (ProgramTest("1.0", "1.1"),)
        for error, wanted in ((1e-6, 0.0), (0.5, 1.0)):
            (verdict,) = await graded(CodeReference(tests, FloatTolerance(error, error)), ["echo"], machine, memory=memory)
            assert verdict.correctness == wanted

    @pytest.mark.parametrize(("cpu_s", "wall_s"), [(0.1, 0.0), (0.1, 10.01), (4.04, 10.01)])
    async def test_a_stop_by_the_wall_clock_is_not_remembered(self, cpu_s: float, wall_s: float) -> None:
        results = [RunResult(0, Status.TIME_LIMIT_EXCEEDED, cpu_s=cpu_s, wall_s=wall_s), RunResult(0, Status.FINISHED, b"0")]
        machine, memory = FakeSandbox(lambda job, index: results.pop(0)), VerdictMemory()
        for wanted in (0.0, 1.0):
            assert (await graded(CodeReference(numbered(1)), ["echo"], machine, memory=memory))[0].correctness == wanted

    async def test_what_takes_too_much_memory_to_compile_may_compile_with_more(self) -> None:
        def compiling(job: Job, index: int) -> RunResult:
            return RunResult(index, Status.FINISHED, b"0") if job.limits.memory_bytes >= 1 << 28 else RunResult(None, Status.COMPILE_ERROR)

        machine, memory = FakeSandbox(compiling), VerdictMemory()
        for size, wanted in ((1 << 24, 0.0), (1 << 28, 1.0), (1 << 24, 0.0)):
            reference = CodeReference(numbered(1), limits=ProgramLimits(memory_bytes=size))
            assert (await graded(reference, ["echo"], machine, memory=memory))[0].correctness == wanted
        assert len(machine.jobs) == 2

    @pytest.mark.parametrize("checker", [CheckerName.TOKENS, KATTIS])
    async def test_a_compiler_that_the_wall_clock_stopped_is_not_remembered(self, checker: CheckerName | ProgramChecker) -> None:
        results = [RunResult(None, Status.COMPILE_ERROR, cpu_s=0.1, wall_s=22.5), RunResult(0, Status.FINISHED, b"0", exit_code=0)]
        right = RunResult(0, Status.RUNTIME_ERROR, exit_code=42)
        machine, memory = FakeSandbox(lambda job, index: right if job.source == "CHECKER" else results.pop(0)), VerdictMemory()
        for wanted in (0.0, 1.0):
            assert (await graded(CodeReference(numbered(1), checker), ["echo"], machine, memory=memory))[0].correctness == wanted

    async def test_a_full_detail_is_the_same_out_of_memory(self) -> None:
        memory = VerdictMemory()
        reference = CodeReference(numbered(5))
        brief = await graded(reference, ["wrong:3"], Machine(), memory=memory)
        first, second = [
            (await graded(reference, ["wrong:3"], Machine(), memory=memory, detail=DetailLevel.FULL, fraction=True))[0] for _ in range(2)
        ]
        assert first.full["tests"][3]["stdout"] == "?"  # type: ignore[index, call-overload]
        assert first == second
        assert brief[0].full == {}


class TestNothingInVain:
    async def test_the_test_that_failed_a_mate_is_the_first_of_the_next(self) -> None:
        machine = Machine()
        programs = [f"wrong:{15 + number % 2},{number}000" for number in range(12)]
        await graded(CodeReference(numbered(20)), programs, machine, at_once=False)
        runs = [sum(count for (source, _), count in machine.runs.items() if source.strip() == program) for program in programs]
        assert runs == [16, 17, *[1, 2] * 5]

    async def test_mates_that_wait_learn_of_it_too(self) -> None:
        """All are asked for at once: what to run first is decided when a program's turn comes, not when it is asked for."""
        machine = Machine(slots=1)
        await graded(CodeReference(numbered(20)), [f"wrong:19,{number}000" for number in range(12)], machine)
        assert sum(machine.runs.values()) == 20 + 11

    async def test_a_share_of_tests_runs_all_of_them(self) -> None:
        machine = Machine()
        verdicts = await graded(CodeReference(numbered(20)), ["wrong:3", "wrong:3,4"], machine, fraction=True)
        assert [verdict.correctness for verdict in verdicts] == [19 / 20, 18 / 20]

    async def test_a_group_of_sixteen_with_twelve_failing_takes_little_more_than_its_right_ones(self) -> None:
        programs = [f"echo{'#' * n}" for n in range(4)] + [f"wrong:{2 + number % 3},{number}000" for number in range(12)]
        frugal, plain = Machine(), Machine()
        await graded(CodeReference(numbered(20)), programs, frugal)
        await graded(CodeReference(numbered(20)), programs, plain, economy=NO_ECONOMY, memory=VerdictMemory(0))
        assert sum(plain.runs.values()) == 320
        assert sum(frugal.runs.values()) <= 4 * 20 + 2 * 5 + 10 * 3


class TestWhoeverWaits:
    async def test_is_not_lost_with_the_one_who_is_stopped(self) -> None:
        machine, reached = Machine(), asyncio.Event()
        judge = await CodeVerifier().prepare(CodeReference(numbered(3)), GroupContext("g", 0, False, DetailLevel.BRIEF), effects(machine))
        plain = machine._answer

        def stopping(job: Job, index: int) -> RunResult:
            reached.set()
            return plain(job, index)

        machine._answer = stopping
        first = asyncio.create_task(judge(CodeBlock("python", "echo")))
        second = asyncio.create_task(judge(CodeBlock("python", "echo")))
        await reached.wait()
        first.cancel()
        assert (await second).correctness == 1.0

    async def test_runs_itself_where_the_other_was_lost(self) -> None:
        class Losing(Machine):
            async def run(self, job: Job, *, started: bool = False, choose: Choose | None = None) -> AsyncGenerator[RunResult, None]:
                async for result in super().run(job, started=started, choose=choose):
                    if not started:
                        raise WorkerLost
                    yield result

        given = effects(Losing())
        judge = await CodeVerifier().prepare(CodeReference(numbered(3)), GroupContext("g", 0, False, DetailLevel.BRIEF), given)
        blocks = [CodeBlock("python", "echo")] * 2
        lost, found = await asyncio.gather(*(judge(block) for block in blocks), return_exceptions=True)
        assert isinstance(lost, WorkerLost)
        assert isinstance(found, Verdict)
        assert found.correctness == 1.0
        assert given.memory.under_way == {}


class TestMemory:
    def test_it_forgets_what_was_asked_for_longest_ago_and_stays_in_bounds(self) -> None:
        memory = VerdictMemory(1_000)
        for name in (b"a", b"b", b"c"):
            memory.keep(name, name.decode(), 0)
        assert memory.recall(b"a") == "a"
        memory.keep(b"d", "d", 0)
        assert [memory.recall(name) for name in (b"a", b"b", b"c", b"d")] == ["a", None, "c", "d"]
        memory.keep(b"a", "larger", 100)
        memory.keep(b"huge", "x", 1_000)
        assert memory.recall(b"huge") is None
        assert memory.size_bytes <= 1_000


# ---- on a real sandbox -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real() -> AsyncIterator[DirectSandbox]:
    backend = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable))
    await backend.start()
    yield DirectSandbox(backend)
    await backend.close()


CALLS = CodeReference(
    tuple(ProgramTest(f'{{"args":[{{"b":{n},"a":2}}]}}', f'["b","a",{n}]') for n in range(4)), function="f", digest="0", draw=None
)
REAL = {
    "programs": (
        CodeReference(numbered(6)),
        [
            "print(input())",
            "print(input()) ",
            "n = input()\nprint(n if n != '4' else 5)",
            "import random\nprint(int(random.random() * 7))",
            "(",
            "exit(3)",
        ],
    ),
    "calls": (
        CALLS,
        [
            "def f(d):\n    return [*d, d['b']]",
            "def f(d):\n    return [*sorted(d, reverse=True), d['b'] if d['b'] != 2 else 1]",
            "import os\ndef f(d):\n    if d['b'] == 1:\n        os.write(1, b'S')\n    return [*d, d['b']]",
            "def f(d",
        ],
    ),
    "asserts": (
        CodeReference((), asserts="assert f(1) == 2\nassert f(2) == 3"),
        ["def f(n):\n    return n + 1", "def f(n):\n    return n + 1 ", "def f(n):\n    return 2", "def f(", "raise SystemExit"],
    ),
}


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("fraction", [False, True])
@pytest.mark.parametrize("kind", REAL)
async def test_grades_of_real_programs_are_the_same(real: DirectSandbox, kind: str, fraction: bool) -> None:
    reference, programs = REAL[kind]
    plain = await graded(reference, programs, real, economy=NO_ECONOMY, memory=VerdictMemory(0), fraction=fraction)
    memory = VerdictMemory()
    for _ in range(2):
        frugal = await graded(reference, programs * 2, real, memory=memory, fraction=fraction)
        shares = [[v.correctness if fraction else v.correctness == 1.0 for v in verdicts] for verdicts in (plain * 2, frugal)]
        assert shares[0] == shares[1]


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="module")
async def test_the_order_of_keys_is_part_of_a_test(real: DirectSandbox) -> None:
    """Two test sets of one digest, in whose canonical form keys are sorted: a program sees their order."""
    memory = VerdictMemory()
    other = dataclasses.replace(CALLS, tests=(ProgramTest('{"args":[{"a":2,"b":0}]}', '["b","a",0]'),))
    program = ["def f(d):\n    return [*d, d['b']]"]
    (right,) = await graded(dataclasses.replace(CALLS, tests=CALLS.tests[:1]), program, real, memory=memory)
    (wrong,) = await graded(other, program, real, memory=memory)
    assert (right.correctness, wrong.correctness) == (1.0, 0.0)
