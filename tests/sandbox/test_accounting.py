"""What a slow machine does to a CPU limit, and a machine without memory to a memory limit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sandbox.interface import Job, Limits, RunnerLost, Status, TestInput
from sandbox.namespaces import accounting
from sandbox.namespaces.backend import NamespacesSandbox


@pytest.mark.parametrize(
    ("best_s", "spins_s", "slowdown"),
    [
        (1e-3, [], 1.0),
        (1e-3, [1e-3], 1.0),
        (1e-3, [1.05e-3], 1.0),  # within the noise
        (1e-3, [1.5e-3], 1.5),
        (1e-3, [1.5e-3, 1e-3, 2e-3], 1.5),
        (1e-3, [5e-3], 2.0),  # no more than twice
        (1e-3, [0.5e-3], 1.0),  # never stricter than the limit says
    ],
)
def test_slowdown(monkeypatch: pytest.MonkeyPatch, best_s: float, spins_s: list[float], slowdown: float) -> None:
    rest = iter(spins_s)
    monkeypatch.setattr(accounting, "_spin_s", lambda: next(rest))
    speed = accounting.Speed(best_s).begin()
    for _ in spins_s:
        speed.look()
    assert speed.slowdown == pytest.approx(slowdown)


HOLD = "held = bytearray(int(input()) << 20)\nprint(len(held))"


async def statuses_of(sandbox: NamespacesSandbox, job: Job) -> list[Status]:
    async with contextlib.aclosing(sandbox.run(job)) as results:
        return [result.status async for result in results]


@pytest.mark.isolation
@pytest.mark.asyncio(loop_scope="session")
async def test_a_kill_below_a_programs_own_bound_is_the_machines_fault(sandbox: NamespacesSandbox) -> None:
    if not sandbox.accounting.startswith("cgroup"):
        pytest.skip("no cgroup counts memory here")
    assert sandbox._cgroups is not None
    folder, files = sandbox._cgroups.path, sandbox._cgroups.files
    used = int(Path(f"{folder}/{files.usage}").read_text())
    bound = Path(f"{folder}/{files.limit}")
    bound.write_text(str(used + (60 << 20)))
    try:
        with pytest.raises(RunnerLost, match="below its own bound"):
            await statuses_of(sandbox, Job("python", HOLD, (TestInput(b"1"), TestInput(b"200")), Limits(memory_bytes=300 << 20)))
    finally:
        bound.write_text("-1" if files.version == 1 else "max")
    for size, status in ((200, Status.FINISHED), (400, Status.MEMORY_LIMIT_EXCEEDED)):
        job = Job("python", HOLD, (TestInput(b"%d" % size),), Limits(memory_bytes=300 << 20))
        assert await statuses_of(sandbox, job) == [status]
