"""Every attack is contained, gets a definite verdict, leaves nothing behind and harms no later job; and each probe can win elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from sandbox.interface import Job, RunResult, Sandbox, Status, TestInput
from sandbox.namespaces.backend import NamespacesSandbox
from sandbox.pool import Pool
from tests.attacks import control, table_compile, table_files, table_forgery, table_kernel, table_network, table_resources, table_state
from tests.attacks.attack import DONE, MARKERS, Attack
from tests.attacks.processes import candidates

TABLES = (table_files, table_network, table_kernel, table_resources, table_state, table_forgery, table_compile)
ATTACKS: tuple[Attack, ...] = tuple(row for table in TABLES for row in table.ATTACKS)
KINDS = {
    "host files", "network", "other processes", "kernel", "privileges", "entries", "processes and threads", "CPU time", "memory", "output",
    "disk", "state", "survivors", "forgery: harness", "forgery: channel", "forgery: exit", "compile: files", "compile: bombs",
    "compile: Python",
}  # fmt: skip

pytestmark = [pytest.mark.attacks, pytest.mark.isolation, pytest.mark.compiler]
on_this_machine = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the probes know the system calls of x86-64")


def _case(row: Attack) -> object:
    marks = [pytest.mark.xfail(reason=row.hole, strict=True)] if row.hole else []
    return pytest.param(row, id=row.id, marks=marks)


def _filled(row: Attack, planted: dict[str, str]) -> tuple[str, tuple[bytes, ...]]:
    source = row.program
    if row.kind == "compile: files":
        source = source.replace("{secret}", planted["secret"])
    inputs = tuple(_fill(data, planted) for data in row.inputs)
    return source, inputs


def _fill(data: bytes, planted: dict[str, str]) -> bytes:
    for name, value in planted.items():
        data = data.replace(b"{" + name.encode() + b"}", value.encode())
    return data


async def _run(sandbox: Sandbox, job: Job) -> list[RunResult]:
    async with contextlib.aclosing(sandbox.run(job)) as results:
        return [result async for result in results]


def _check(row: Attack, results: Sequence[RunResult], allowed: frozenset[Status]) -> None:
    compiled = [result for result in results if result.index is not None]
    assert len(compiled) == len(row.inputs) or [result.status for result in results] == [Status.COMPILE_ERROR]
    for result in results:
        for marker in MARKERS:
            assert marker not in result.stdout, result.stdout[:300]
            assert marker not in result.stderr, result.stderr[:300]
        assert result.status in allowed, (result.status, result.stdout[-200:], result.stderr[-300:])
        assert len(result.stdout) <= row.output_bytes
        if result.status is Status.FINISHED and row.prints is None and row.ends:
            assert result.stdout.endswith(DONE), "the probe did not come to its end"
        if result.status is Status.FINISHED and row.prints is not None:
            assert result.stdout == row.prints


async def _a_later_job_is_right(sandbox: Sandbox) -> None:
    echo = await _run(sandbox, Job("python", "print(input()[::-1])", (TestInput(b"abc"), TestInput(b"xyz"))))
    assert [(result.status, result.stdout) for result in echo] == [(Status.FINISHED, b"cba\n"), (Status.FINISHED, b"zyx\n")]
    source = "#include <bits/stdc++.h>\nint main() { int a; std::cin >> a; std::cout << a + 1; }"
    added = await _run(sandbox, Job("cpp", source, (TestInput(b"41"),)))
    assert [(result.status, result.stdout) for result in added] == [(Status.FINISHED, b"42")]


@on_this_machine
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("row", [_case(row) for row in ATTACKS])
async def test_an_attack_is_contained(sandbox: Sandbox, planted: dict[str, str], row: Attack) -> None:
    source, inputs = _filled(row, planted)
    job = Job(row.language, source, tuple(TestInput(data, row.output_bytes) for data in inputs), row.limits)
    weaker = isinstance(sandbox, Pool | NamespacesSandbox) and sandbox.describe()["memory accounting"] == "rlimit"
    allowed = row.allowed | row.weaker if weaker else row.allowed
    started = time.monotonic()
    for _ in range(row.rounds):
        _check(row, await _run(sandbox, job), allowed)  # a SandboxError here means: the program made itself our fault
    assert time.monotonic() - started < row.wall_s * (2 if isinstance(sandbox, Pool) else 1)  # containers share their cores with more
    assert candidates(sandbox) == set(), "processes are left"
    await _a_later_job_is_right(sandbox)


CONTROLLED: tuple[Attack, ...] = tuple(row for row in ATTACKS if row.control != "none")


@pytest.fixture(scope="session")
def unprotected(planted: dict[str, str]) -> Callable[[Attack], bytes]:
    """What a probe prints where nothing protects; probes of one class share a copy of the machine, made when the first is asked for."""
    done: dict[str, bytes] = {}

    def printed(row: Attack) -> bytes:
        if row.id not in done:
            rows = [other for other in CONTROLLED if (other.kind, other.control) == (row.kind, row.control)]
            done.update(control.run([(other, *_filled(other, planted)) for other in rows], planted["shared"]))
        return done[row.id]

    return printed


@on_this_machine
@pytest.mark.skipif(control.unavailable() is not None, reason=str(control.unavailable()))
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in CONTROLLED])
def test_a_probe_wins_where_nothing_protects(unprotected: Callable[[Attack], bytes], row: Attack) -> None:
    printed = unprotected(row)
    if b"absent" in printed:
        pytest.skip("this kernel lacks it")
    assert any(marker in printed for marker in MARKERS), printed[:500]


def test_the_table_covers_every_class() -> None:
    assert {row.kind for row in ATTACKS} == KINDS
    assert len(ATTACKS) >= 150
    assert sum(row.language == "cpp" for row in ATTACKS) >= 40
    assert [name for name, count in Counter(row.id for row in ATTACKS).items() if count > 1] == []
    assert [row.id for row in ATTACKS if not row.why] == []
    assert [row.id for row in ATTACKS if (row.control == "none") != bool(row.no_control)] == []
