"""Verdicts of code beside careless runners, and what is saved in a group, interleaved in one run.

    python bench/code.py [--rounds 3] [--programs 4] [--tests 20] [--only programs,calls,asserts,group]

    programs   tests per second of programs with inputs, judged, beside a bare subprocess per test
    calls      function calls, beside `exec` in one unprotected process, and beside a fresh unprotected process for each
    asserts    assert programs, beside the same
    group      seconds for a group of 16 rollouts of which 12 fail, beside running each on all its tests (three kinds of groups)

The careless runners compare as well and keep nothing apart: they are the floor. Medians of the rounds; ours has two slots.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # this file's folder would hide what math.py and others name

import argparse  # noqa: E402
import asyncio  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Awaitable, Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

from reward_service.effects import Economy, Effects  # noqa: E402
from reward_service.records import CodeBlock, CodeReference, DetailLevel, ProgramLimits, ProgramTest  # noqa: E402
from reward_service.settings import Settings  # noqa: E402
from reward_service.verdict_memory import VerdictMemory  # noqa: E402
from reward_service.verifiers.base import GroupContext  # noqa: E402
from reward_service.verifiers.code import CodeVerifier  # noqa: E402
from reward_service.wiring import build_machine  # noqa: E402

PYTHON = os.path.realpath(sys._base_executable)
ALL_OFF = Economy(stop_early=False, failed_first=False, join=False)
SOLVE = "def solve(n):\n    total = 0\n    for i in range(n):\n        total += i * i % 7\n    return total\n"
READ = "print(solve(int(input())))\n"
CALL_RUNNER = """
import json, sys
program, tests = json.load(sys.stdin)
for given, expected in tests:
    names = {}
    exec(program, names)
    assert names['solve'](*given) == expected
"""
ASSERT_RUNNER = """
import json, sys
for program, asserts in json.load(sys.stdin):
    exec(asserts, (lambda names: exec(program, names) or names)({}))
"""
Side = Callable[[], Awaitable[int]]  # does its work and says how many tests or programs that was


def expected(n: int) -> int:
    return sum(i * i % 7 for i in range(n))


def program_tests(count: int, size: int) -> tuple[ProgramTest, ...]:
    return tuple(ProgramTest(str(size + n), str(expected(size + n))) for n in range(count))


async def correctness(effects: Effects, reference: CodeReference, programs: list[str], group: str = "g") -> list[float]:
    judge = await CodeVerifier().prepare(reference, GroupContext(group, 0, False, DetailLevel.BRIEF), effects)
    verdicts = await asyncio.gather(*(judge(CodeBlock("python", program)) for program in programs))
    return [verdict.correctness for verdict in verdicts]


def require(right: bool) -> None:
    if not right:
        raise RuntimeError("a side gave a wrong verdict")


def run(*command: str, given: str) -> str:
    return subprocess.run([PYTHON, *command], input=given, capture_output=True, text=True, check=True, timeout=60).stdout


# ---- the sides -------------------------------------------------------------------------------------------------------


def ours(make: Callable[[], Effects], reference: CodeReference, program: str, programs: int, tests: int) -> Side:
    async def work() -> int:
        shares = await correctness(make(), reference, [f"{program}# {number}\n" for number in range(programs)])
        require(shares == [1.0] * programs)
        return programs * tests

    return work


def bare_programs(folder: str, tests: tuple[ProgramTest, ...], programs: int) -> Side:
    path = os.path.join(folder, "program.py")
    Path(path).write_text(SOLVE + READ)

    def one() -> None:
        for test in tests:
            require(run(path, given=test.stdin).split() == test.stdout.split())

    async def work() -> int:
        await asyncio.gather(*(asyncio.to_thread(one) for _ in range(programs)))
        return programs * len(tests)

    return work


def one_process(runner: str, given: object, count: int) -> Side:
    async def work() -> int:
        await asyncio.to_thread(run, "-c", runner, given=json.dumps(given))
        return count

    return work


def process_each(runner: str, given: list[object], workers: int = 2) -> Side:
    async def work() -> int:
        turns = asyncio.Semaphore(workers)

        async def one(item: object) -> None:
            async with turns:
                await asyncio.to_thread(run, "-c", runner, given=json.dumps(item))

        await asyncio.gather(*(one(item) for item in given))
        return len(given)

    return work


# ---- a group of which most fail --------------------------------------------------------------------------------------


def varied() -> list[str]:
    """What a policy writes: half a dozen kinds of failure, some of them more than once, and two of four right ones alike."""
    right = [SOLVE + READ, SOLVE + READ, SOLVE.replace("total", "s") + READ, "# by hand\n" + SOLVE + READ]
    wrong = [SOLVE.replace("% 7", f"% {k}") + READ for k in (5, 9, 11)]
    late = [SOLVE.replace("return total", f"return total + (n % {k} == 3)") + READ for k in (10, 20, 20)]
    crash = [SOLVE + "n = int(input())\nprint([solve(n)][n % 4])\n", SOLVE + "print(solve(int(inptu())))\n"]
    other = [SOLVE + "while True: pass\n", SOLVE + "n = int(input())\nwhile n % 3: pass\nprint(solve(n))\n", "def solve(n:\n", wrong[0]]
    return right + wrong + late + crash + other


def wrong_answers() -> list[str]:
    """No two alike: wrong ones that fail every test, or every fifth or tenth."""
    right = [SOLVE + READ + f"# {k}\n" for k in range(4)]
    return right + [SOLVE.replace("return total", f"return total + (n % {(1, 5, 10)[k % 3]} == 0) # {k}") + READ for k in range(12)]


def rare_failures() -> list[str]:
    """The worst case: no two alike, and all twelve fail the same single test of twenty, which is run last."""
    right = [SOLVE + READ + f"# {k}\n" for k in range(4)]
    return right + [SOLVE.replace("return total", f"return total + (n % 20 == 19) # {k}") + READ for k in range(12)]


def group_side(make: Callable[[], Effects], reference: CodeReference, programs: list[str]) -> Side:
    async def work() -> int:
        shares = await correctness(make(), reference, programs)
        require([share == 1.0 for share in shares] == [True] * 4 + [False] * 12)
        return 1

    return work


# ---- measuring -------------------------------------------------------------------------------------------------------


async def seconds(side: Side) -> float:
    started = time.perf_counter()
    done = await side()
    return (time.perf_counter() - started) / done


async def compare(name: str, sides: dict[str, Side], rounds: int) -> None:
    """Run the sides in turn; the first is ours, each other one is what it is set in relation to."""
    for side in list(sides.values())[: 1 if name.startswith("group") else None]:
        await side()
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            times[side].append(await seconds(work))
    own = next(iter(sides))
    shown = ", ".join(f"{side} {1000 * statistics.median(found):.2f} ms" for side, found in times.items())
    print(f"{name:22s} {shown} ({rounds} rounds)")
    for side in list(sides)[1:]:
        ratios = [other / mine for mine, other in zip(times[own], times[side], strict=True)]
        if name.startswith("group"):
            print(f"ratio: {name} {statistics.median(1 / ratio for ratio in ratios):.3f} (1.0: as long as {side})")
        else:
            print(f"ratio: {name} {statistics.median(ratios):.2f} (1.0: as many a second as {side})")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", type=int, default=4)
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--size", type=int, default=100_000, help="steps of a program in a test of a group: 100,000 take 8 ms")
    parser.add_argument("--only", default="programs,calls,asserts,group")
    args = parser.parse_args()
    machine = build_machine(Settings(sandbox_slots=2, workers=1))
    await machine.start()
    chosen = args.only.split(",")

    def plain() -> Effects:
        return replace(machine.effects("bench", None), economy=ALL_OFF, memory=VerdictMemory(0))

    def frugal() -> Effects:
        return replace(machine.effects("bench", None), memory=VerdictMemory())  # an empty one: nothing known from the round before

    try:
        with tempfile.TemporaryDirectory() as folder:
            if "programs" in chosen:
                tests = program_tests(args.tests, 100)
                left = ours(plain, CodeReference(tests), SOLVE + READ, args.programs, args.tests)
                await compare("programs", {"ours": left, "bare": bare_programs(folder, tests, args.programs)}, args.rounds)
            if "calls" in chosen:
                given = [([100 + n], expected(100 + n)) for n in range(args.tests)]
                tests = tuple(ProgramTest(json.dumps({"args": args_}), json.dumps(value)) for args_, value in given)
                left = ours(plain, CodeReference(tests, function="solve"), SOLVE, args.programs, args.tests)
                inside = one_process(CALL_RUNNER, (SOLVE, given * args.programs), args.programs * args.tests)
                apart = process_each(CALL_RUNNER, [(SOLVE, [test]) for test in given])
                await compare("calls", {"ours": left, "exec": inside, "process each": apart}, args.rounds)
            if "asserts" in chosen:
                text = "".join(f"assert solve({n}) == {expected(n)}\n" for n in range(5))
                left = ours(plain, CodeReference((), asserts=text), SOLVE, args.programs, 1)
                inside = one_process(ASSERT_RUNNER, [(SOLVE, text)] * args.programs, args.programs)
                apart = process_each(ASSERT_RUNNER, [[(SOLVE, text)]] * args.programs)
                await compare("asserts", {"ours": left, "exec": inside, "process each": apart}, args.rounds)
        if "group" in chosen:
            reference = CodeReference(program_tests(20, args.size), limits=ProgramLimits(cpu_s=0.25))
            for kind in (varied, wrong_answers, rare_failures):
                sides = {"ours": group_side(frugal, reference, kind()), "each on all tests": group_side(plain, reference, kind())}
                await compare(f"group {kind.__name__}", sides, args.rounds)
    finally:
        await machine.close()


if __name__ == "__main__":
    asyncio.run(main())
