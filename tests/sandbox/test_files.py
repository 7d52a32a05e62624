"""Programs with files beside them, files of their own per test, and arguments."""

from __future__ import annotations

import contextlib

import pytest

from sandbox.interface import Job, Limits, RunResult, Sandbox, Status, TestInput

NO_NAMES = ["", ".", "..", "a/b", "/etc/passwd", ".hidden", "-o", "main.py", "main.cpp", "main", "a\nb", "a\0", "x" * 65, "é"]


async def results_of(sandbox: Sandbox, job: Job) -> list[RunResult]:
    async with contextlib.aclosing(sandbox.run(job)) as results:
        return [result async for result in results]


CPP = """
#include <bits/stdc++.h>
#include "answer.h"
int main(int argc, char **argv) {
    std::ifstream file(argv[1]); std::string word; file >> word;
    std::cout << word << ' ' << ANSWER << ' ' << argc;
}
"""
PYTHON = "import sys, helper, os\nprint(open(sys.argv[1]).read(), helper.ANSWER, len(sys.argv), sorted(os.listdir('.')))"


@pytest.mark.compiler
@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_native_programs(sandbox: Sandbox) -> None:
    tests = (TestInput(b"", files={"input": b"one"}), TestInput(b"", files={"input": b"two", "other": b"x"}))
    first = Job("cpp", CPP, tests, files={"answer.h": b"#define ANSWER 42"}, arguments=("input", "a b"))
    assert [result.stdout for result in await results_of(sandbox, first)] == [b"one 42 3", b"two 42 3"]
    second = Job("cpp", CPP, tests, files={"answer.h": b"#define ANSWER 43"}, arguments=("input",))
    assert [result.stdout for result in await results_of(sandbox, second)] == [b"one 43 2", b"two 43 2"]


@pytest.mark.compiler
@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_native_arguments_without_files(sandbox: Sandbox) -> None:
    source = "#include <cstdio>\nint main(int n, char **a) { for (int i = 1; i < n; i++) puts(a[i]); }"
    (result,) = await results_of(sandbox, Job("cpp", source, (TestInput(b""),), arguments=("x", "", "--y", "é")))
    assert result.stdout == "x\n\n--y\né\n".encode()


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_python_programs(sandbox: Sandbox) -> None:
    tests = (TestInput(b"", files={"input": b"one"}), TestInput(b"", files={"input": b"two", "b.txt": b""}))
    job = Job("python", PYTHON, tests, files={"helper.py": b"ANSWER = 42"}, arguments=("input",))
    found = await results_of(sandbox, job)
    assert [result.stdout for result in found] == [b"one 42 2 ['input']\n", b"two 42 2 ['b.txt', 'input']\n"], found[0].stderr


SHADOWS = {
    "csv.py": "import csv",
    "decimal.py": "import statistics",
    "stringprep.py": "# -*- coding: idna -*-",
    "secrets.py": "import numpy\ntry: numpy.random\nexcept ImportError: pass",
}


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", SHADOWS)
async def test_files_beside_a_program_run_in_its_tests_alone(sandbox: Sandbox, name: str) -> None:
    """Whatever the supervisor imports by itself is never one of them: it holds the socket that results go through."""
    evil = b"import os, sys\nsys.descriptors = os.listdir('/proc/self/fd')\n"
    source = f"{SHADOWS[name]}\nimport sys\nprint(len(getattr(sys, 'descriptors', '')))"
    (result,) = await results_of(sandbox, Job("python", source, (TestInput(b""),), files={name: evil}))
    if result.status is Status.FINISHED:
        assert int(result.stdout) <= 4, "standard streams and the listing itself"
    else:
        assert b"ImportError" in result.stderr, result


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_files_are_charged_to_no_limit(sandbox: Sandbox) -> None:
    source = "import os\nprint(os.path.getsize('big'))\nopen('mine', 'wb').write(b'x' * (1 << 20))"
    limits = Limits(cpu_s=3, memory_bytes=32 << 20, disk_bytes=2 << 20)
    (result,) = await results_of(sandbox, Job("python", source, (TestInput(b"", files={"big": bytes(50 << 20)}),), limits))
    assert (result.status, result.stdout) == (Status.FINISHED, b"52428800\n"), result
    assert result.memory_bytes < 32 << 20


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        Job("python", "", (), files={name: b""})
    with pytest.raises(ValueError, match="no name"):
        TestInput(b"", files={name: b""})


def test_bounds() -> None:
    with pytest.raises(ValueError, match="at most"):
        Job("python", "", (), files={f"f{n}": b"" for n in range(33)})
    with pytest.raises(ValueError, match="at most"):
        Job("python", "", (), files={"f": bytes((8 << 20) + 1)})
    with pytest.raises(ValueError, match="arguments"):
        Job("python", "", (), arguments=("a\0",))
    with pytest.raises(ValueError, match="arguments"):
        Job("python", "", (), arguments=("a",) * 65)


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_as_many_and_as_long_arguments_as_a_job_may_have(sandbox: Sandbox) -> None:
    arguments = tuple(f"{number:02d}" + "x" * 4094 for number in range(64))
    job = Job("python", "import sys\nprint(len(sys.argv), sum(map(len, sys.argv[1:])))", (TestInput(b""),), arguments=arguments)
    (result,) = await results_of(sandbox, job)
    assert result.stdout == b"65 262144\n"
