"""A hundred thousand tests in a row leave nothing behind. `make soak`; SOAK_TESTS sets another number."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.interface import Job, Limits, Status, TestInput
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox

pytestmark = [pytest.mark.soak, pytest.mark.isolation]

TOTAL = int(os.environ.get("SOAK_TESTS", "100000"))
PER_JOB = 100
PROGRAMS = {
    "python": "n = int(input())\nopen('f', 'w').write('x' * n)\nprint(n * 2)",
    "cpp": '#include <bits/stdc++.h>\nint main() { long n; std::cin >> n; std::ofstream("f") << n; std::cout << n * 2 << std::endl; }',
}
FAILURES = ("while True: pass", "import os\nwhile True: os.fork()", "b = bytearray(1 << 30)", "1 / 0", "import os\nos.abort()")


@dataclass(frozen=True)
class Left:
    """What could grow."""

    processes: int
    mounts: int
    cgroups: int
    descriptors: int
    resident_kib: int
    temporary: int


def descendants(pid: int) -> int:
    """How many processes descend from it: what others start on this machine does not count."""
    found, frontier = 0, [pid]
    while frontier:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{frontier.pop()}/task").iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += len(children)
                frontier += children
    return found


def left(pid: int, sandbox: NamespacesSandbox) -> Left:
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    mounts = len(Path("/proc/self/mounts").read_text().splitlines())
    groups = len(os.listdir(sandbox._cgroups.path)) if sandbox._cgroups is not None else 0
    return Left(descendants(pid), mounts, groups, len(os.listdir(f"/proc/{pid}/fd")), resident, len(os.listdir(tempfile.gettempdir())))


async def run(sandbox: NamespacesSandbox, language: str, first: int) -> None:
    inputs = tuple(TestInput(b"%d" % (first + k)) for k in range(PER_JOB))
    async with contextlib.aclosing(sandbox.run(Job(language, PROGRAMS[language], inputs))) as results:
        async for result in results:
            assert result.index is not None
            assert result.status is Status.FINISHED, result
            assert result.stdout == b"%d\n" % (2 * (first + result.index))


async def fail(sandbox: NamespacesSandbox, source: str) -> None:
    job = Job("python", source, (TestInput(b""),), Limits(cpu_s=0.1, memory_bytes=100 << 20))
    async with contextlib.aclosing(sandbox.run(job)) as results:
        async for result in results:
            assert result.status is not Status.FINISHED


async def test_nothing_grows() -> None:
    sandbox = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable))
    await sandbox.start()
    languages = sorted(sandbox.languages & set(PROGRAMS))
    before = None
    for number in range(TOTAL // PER_JOB // 2):
        both = (run(sandbox, languages[(number + k) % len(languages)], number) for k in range(2))
        await asyncio.gather(*both, fail(sandbox, FAILURES[number % len(FAILURES)]))
        if number == 20:
            before = left(os.getpid(), sandbox)
    await asyncio.sleep(1)
    after = left(os.getpid(), sandbox)
    await sandbox.close()
    assert before is not None
    print(before, after, sep="\n")  # noqa: T201 - the figures are what one looks at
    assert after.mounts == before.mounts
    assert after.cgroups <= before.cgroups + 8  # used again; as many as cells ever ended at the same time
    assert after.temporary <= before.temporary + 2
    assert after.descriptors <= before.descriptors + 8
    assert after.processes <= before.processes + 20
    assert after.resident_kib <= before.resident_kib + 20_000
