"""Tests that travel together: each gets its own result, whatever goes before, beside and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.interface import Job, Limits, RunResult, Status, TestInput
from sandbox.namespaces.backend import NamespacesSandbox
from sandbox.namespaces.wire import INPUT_BYTES, REPLIES_BYTES, REQUESTS_BYTES, STDERR_BYTES, STDOUT_BYTES
from tests.sandbox.runners import BOMB

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.isolation]

# The input's first line says what to do: how many bytes to write to each stream, how long to take, how to end.
PROGRAM = """
import os, sys, time
output, errors, pause, code = map(float, sys.stdin.readline().split())
rest = sys.stdin.read()
sys.stdout.write('o' * int(output) + str(len(rest)))
sys.stderr.write('e' * int(errors))
time.sleep(pause)
os.path.exists('seen') and sys.stdout.write('left over')
open('seen', 'w').close()
sys.exit(int(code))
"""
SIZES = st.sampled_from([0, 1, 100, STDOUT_BYTES - 10, STDOUT_BYTES, STDOUT_BYTES + 1, REPLIES_BYTES, 200_000])
INPUTS = st.sampled_from([0, 1, 1000, INPUT_BYTES - 40, INPUT_BYTES, INPUT_BYTES + 1, REQUESTS_BYTES])
ERRORS = st.sampled_from([0, 0, 10, STDERR_BYTES, STDERR_BYTES + 1])
PAUSES = st.sampled_from([0, 0, 0, 0, 0.004, 0.07])
TESTS = st.lists(st.tuples(SIZES, ERRORS, PAUSES, st.sampled_from([0, 0, 3]), INPUTS, st.booleans()), min_size=1, max_size=24)


def job(tests: list[tuple[int, int, float, int, int, bool]]) -> Job:
    def content(output: float, errors: float, pause: float, code: float, size: float) -> bytes:
        return b"%d %d %s %d\n" % (output, errors, str(pause).encode(), code) + b"i" * int(size)

    return Job("python", PROGRAM, tuple(TestInput(content(*rest), files={"f": b"1"} if files else {}) for *rest, files in tests))


async def run(sandbox: NamespacesSandbox, work: Job) -> list[RunResult]:
    async with contextlib.aclosing(sandbox.run(work)) as results:
        return [result async for result in results]


@pytest.fixture(params=["sandbox", "interpreted"])
def any_loop(request: pytest.FixtureRequest) -> NamespacesSandbox:
    found: NamespacesSandbox = request.getfixturevalue(request.param)
    return found


@given(tests=TESTS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_each_test_gets_its_own_result(any_loop: NamespacesSandbox, tests: list[tuple[int, int, float, int, int, bool]]) -> None:
    results = await run(any_loop, job(tests))
    assert [result.index for result in results] == list(range(len(tests)))
    for result, (output, errors, _, code, size, _) in zip(results, tests, strict=True):
        assert (result.exit_code, result.status) == (code, Status.RUNTIME_ERROR if code else Status.FINISHED)
        assert result.stdout == b"o" * output + b"%d" % size
        assert result.stderr == b"e" * min(errors, STDERR_BYTES)


async def test_a_stop_in_the_middle_is_that_tests_own(any_loop: NamespacesSandbox) -> None:
    tests = tuple(TestInput(text) for text in (b"1", b"2", b"3", b"loop", b"5", b"flood", b"7", b"8"))
    source = "text = input()\nwhile text == 'loop': pass\nwhile text == 'flood': print('x' * 100000)\nprint(text)"
    results = await run(any_loop, Job("python", source, tests, Limits(cpu_s=0.2)))
    stopped = {3: Status.TIME_LIMIT_EXCEEDED, 5: Status.OUTPUT_LIMIT_EXCEEDED}
    assert [(result.index, result.status) for result in results] == [(n, stopped.get(n, Status.FINISHED)) for n in range(8)]
    assert [result.stdout for result in results if result.status is Status.FINISHED] == [b"1\n", b"2\n", b"3\n", b"5\n", b"7\n", b"8\n"]


@pytest.mark.parametrize("place", range(5))
async def test_memory_that_takes_the_supervisor_down_is_that_tests_own(sandbox: NamespacesSandbox, place: int) -> None:
    inputs = tuple(TestInput(b"bomb" if number == place else b"x") for number in range(5))
    results = await run(sandbox, Job("python", BOMB, inputs, Limits(cpu_s=3, memory_bytes=64 << 20)))
    statuses: Callable[[int], Status] = lambda number: Status.MEMORY_LIMIT_EXCEEDED if number == place else Status.FINISHED  # noqa: E731
    assert [(result.index, result.status) for result in results] == [(number, statuses(number)) for number in range(5)]
