"""Every backend gives the same verdict and the same bytes for the same program: one table, run through all of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.interface import Job, Limits, RunResult, Sandbox, Status, TestInput
from sandbox.selfcheck import CONFORMANCE
from tests.sandbox.runners import backend_named
from tests.sandbox.test_fidelity import INPUT, PROGRAMS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.containers]

INPUTS = (TestInput(INPUT), TestInput(b""))
NUMERIC = {
    "numpy": "import numpy\nprint(numpy.random.random(3), numpy.arange(5).sum(), numpy.linalg.det(numpy.eye(3)))",
    "random": "import random\nprint(random.random(), random.sample(range(100), 5))",
    "sortedcontainers": "from sortedcontainers import SortedList\nprint(list(SortedList([3, 1, 2])))",
    "no such package": "import httpx",
    "forks": "import os\nfor _ in range(12):\n    if os.fork() == 0:\n        x = bytearray(1 << 20)\n        os._exit(0)\n"
    "for _ in range(12): os.wait()\nprint('done')",
    "memory below": f"b = bytearray({80 << 20})\nprint(len(b))",
    "memory above": f"b = bytearray({130 << 20})\nprint(len(b))",
    "short peak above": "import mmap\nm = mmap.mmap(-1, 130 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nm.write(bytes(65 << 20))\n"
    "m.write(bytes(65 << 20))",
    "threads": "import threading\nfound = []\nt = [threading.Thread(target=found.append, args=(n,)) for n in range(30)]\n"
    "for x in t: x.start()\nfor x in t: x.join()\nprint(sorted(found))",
    "processes": "import multiprocessing\nif __name__ == '__main__':\n    with multiprocessing.get_context('fork').Pool(6) as p: "
    "print(p.map(str, range(20)))",
    "sleep": "import time\ntime.sleep(0.3)\nprint('slept')",
}
JOBS: dict[str, Job] = {
    **{name: Job("python", source, INPUTS) for name, source in PROGRAMS.items()},
    **{name: Job("python", source, INPUTS[:1], Limits(memory_bytes=100 << 20), seed=7) for name, source in NUMERIC.items()},
    **{check.name: check.job for check in CONFORMANCE},
    "C++ floats": Job("cpp", "#include <bits/stdc++.h>\nint main() { std::cout << std::setprecision(17) << std::sqrt(2.0) / 3; }", INPUTS),
    "C++ reads": Job("cpp", "#include <bits/stdc++.h>\nint main() { int a, b; std::cin >> a >> b; std::cout << a * b << '\\n'; }", INPUTS),
    "C++ segfault": Job("cpp", "int main() { volatile int* p = nullptr; return *p; }", INPUTS),
    "C++ threads": Job(
        "cpp",
        "#include <bits/stdc++.h>\nint main() { std::atomic<int> n{0}; std::vector<std::thread> t;\n"
        "for (int i = 0; i < 8; i++) t.emplace_back([&] { n++; });\nfor (auto& x : t) x.join(); std::cout << n; }",
        INPUTS,
    ),
    "C++ deep recursion": Job(
        "cpp",
        "int f(int n) { volatile char c[64]; c[0] = n; return n ? f(n - 1) + c[0] * 0 : 0; }\nint main() { return f(1000000); }",
        INPUTS,
    ),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def backends() -> AsyncIterator[dict[str, Sandbox]]:
    async with contextlib.AsyncExitStack() as undo:
        found: dict[str, Sandbox] = {}
        for name in ("namespaces", "docker", "remote", "composed"):
            backend = undo.enter_context(backend_named(name))
            await backend.start()
            undo.push_async_callback(backend.close)
            found[name] = backend
        yield found


async def verdicts(sandbox: Sandbox, job: Job) -> list[tuple[object, ...]]:
    async with contextlib.aclosing(sandbox.run(job)) as results:
        return [shown(result) async for result in results]


def shown(result: RunResult) -> tuple[object, ...]:
    """What a grade may rest on; how a program ended that was stopped at a limit, and what it wrote before, depends on what saw it first."""
    whole = result.status in (Status.FINISHED, Status.RUNTIME_ERROR)
    return result.index, result.status, *((result.stdout, result.exit_code, result.signal) if whole else ())


@pytest.mark.parametrize("name", JOBS)
async def test_all_backends_say_the_same(backends: dict[str, Sandbox], name: str) -> None:
    first = await verdicts(backends["namespaces"], JOBS[name])
    for backend in ("docker", "remote", "composed"):
        assert await verdicts(backends[backend], JOBS[name]) == first, backend
