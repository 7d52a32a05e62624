"""What dies, and what is left: killed supervisors, closed jobs, killed services, and the start after them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.interface import Job, Limits, RunnerLost, Status, TestInput
from sandbox.namespaces import cgroups
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from tests.sandbox.runners import BOMB

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.isolation]

SLEEP = "import time\nprint('x', flush=True)\ntime.sleep(30)"
ECHO = "print(input())"


SURVIVOR = """
import os, time
os.fork()
if os.getpid() != 1:
    os.setsid()
time.sleep(60)
"""


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    frontier = [pid]
    while frontier:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in children(frontier.pop()):
                if child not in found:
                    found.add(child)
                    frontier.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found


async def until_gone(pids: set[int], seconds: float = 5.0) -> set[int]:
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return alive(pids)


async def outputs(sandbox: NamespacesSandbox, job: Job) -> list[bytes]:
    async with contextlib.aclosing(sandbox.run(job)) as results:
        return [result.stdout async for result in results]


def echo(*values: bytes) -> Job:
    return Job("python", ECHO, tuple(TestInput(value) for value in values))


def init_of(sandbox: NamespacesSandbox) -> int:
    """The init of the Python zygote's pid namespace."""
    (init,) = children(sandbox.zygote_pids()["python"])
    return init


async def test_a_killed_zygote_is_a_lost_runner_and_is_replaced(sandbox: NamespacesSandbox) -> None:
    for victim in (lambda: sandbox.zygote_pids()["python"], lambda: init_of(sandbox)):
        job = sandbox.run(Job("python", SLEEP, (TestInput(b""),)))
        first = asyncio.ensure_future(anext(job))
        await asyncio.sleep(0.3)
        os.kill(victim(), signal.SIGKILL)
        with pytest.raises(RunnerLost):
            await first
        await job.aclose()
        assert await outputs(sandbox, echo(b"1", b"2")) == [b"1\n", b"2\n"]


async def test_a_killed_cell_is_a_lost_runner_and_no_verdict(sandbox: NamespacesSandbox) -> None:
    await outputs(sandbox, echo(b"1"))  # spares are there again
    before = descendants(init_of(sandbox))
    job = sandbox.run(Job("python", SLEEP, (TestInput(b""),)))
    first = asyncio.ensure_future(anext(job))
    await asyncio.sleep(0.5)
    running = [pid for pid in children(init_of(sandbox)) if children(pid)]
    assert running, before
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunnerLost):
        await first
    await job.aclose()
    assert await outputs(sandbox, echo(b"3")) == [b"3\n"]


async def test_closing_the_iterator_kills_the_job(sandbox: NamespacesSandbox) -> None:
    inputs = tuple(TestInput(b"") for _ in range(5))
    job = sandbox.run(Job("python", "import os\nos.fork()\nimport time\ntime.sleep(30)", inputs, Limits(cpu_s=20)))
    first = asyncio.ensure_future(anext(job))
    await asyncio.sleep(0.5)
    running = {pid for cell in children(init_of(sandbox)) for pid in (*children(cell),)}
    assert running
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await job.aclose()
    assert await until_gone(running, 1.0) == set()


async def test_a_job_cancelled_while_it_waits_takes_no_slot(sandbox: NamespacesSandbox) -> None:
    busy = [
        asyncio.create_task(outputs(sandbox, Job("python", "import time\ntime.sleep(0.5)\nprint(1)", (TestInput(b""),)))) for _ in range(2)
    ]
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(outputs(sandbox, echo(b"9"))) for _ in range(5)]
    await asyncio.sleep(0.05)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await asyncio.gather(*busy) == [[b"1\n"], [b"1\n"]]
    assert await asyncio.gather(*(outputs(sandbox, echo(b"%d" % n)) for n in range(8))) == [[b"%d\n" % n] for n in range(8)]


async def test_many_jobs_at_once_each_get_their_own_results(sandbox: NamespacesSandbox) -> None:
    jobs = [echo(*(b"%d" % (100 * n + k) for k in range(5))) for n in range(24)]
    found = await asyncio.gather(*(outputs(sandbox, job) for job in jobs))
    assert found == [[b"%d\n" % (100 * n + k) for k in range(5)] for n in range(24)]


async def test_a_program_that_kills_its_supervisor_by_memory_gets_its_verdict_and_the_rest_runs(sandbox: NamespacesSandbox) -> None:
    inputs = tuple(TestInput(value) for value in (b"bomb", b"x", b"bomb", b"y"))
    async with contextlib.aclosing(sandbox.run(Job("python", BOMB, inputs, Limits(cpu_s=3, memory_bytes=64 << 20)))) as results:
        found = [(result.index, result.status) async for result in results]
    assert [index for index, _ in found] == [0, 1, 2, 3]
    assert [status for _, status in found] == [Status.MEMORY_LIMIT_EXCEEDED, Status.FINISHED, Status.MEMORY_LIMIT_EXCEEDED, Status.FINISHED]


_SERVICE = """
import asyncio, sys
from sandbox.interface import Job, TestInput
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
async def main():
    sandbox = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable))
    await sandbox.start()
    job = sandbox.run(Job("python", sys.argv[1], (TestInput(b""),)))
    task = asyncio.ensure_future(anext(job))
    await asyncio.sleep(0.5)
    print("running", sandbox._cgroups.path if sandbox._cgroups else "", flush=True)
    await task
asyncio.run(main())
"""


async def test_nothing_survives_a_killed_service_and_the_next_start_sweeps_up() -> None:
    root = Path(__file__).parents[2]
    service = subprocess.Popen([sys.executable, "-c", _SERVICE, SURVIVOR], stdout=subprocess.PIPE, cwd=root, text=True)
    assert service.stdout is not None
    line = await asyncio.to_thread(service.stdout.readline)
    started = descendants(service.pid)
    assert line.startswith("running")
    assert len(started) >= 6
    service.kill()
    service.wait()
    service.stdout.close()
    assert await until_gone(started) == set()
    folder = line.split()[1:]
    if folder:
        assert os.path.isdir(folder[0])
        assert cgroups.sweep(os.path.dirname(folder[0])) >= 1
        assert not os.path.isdir(folder[0])


async def test_closing_leaves_no_process_and_no_cgroup() -> None:
    backend = NamespacesSandbox(NamespacesConfig(slots=1, python=sys.executable))
    await backend.start()
    await outputs(backend, echo(b"1"))
    started = {pid for pid in backend.zygote_pids().values()} | {
        pid for zygote in backend.zygote_pids().values() for pid in descendants(zygote)
    }
    folder = backend._cgroups.path if backend._cgroups else ""
    await backend.close()
    assert await until_gone(started) == set()
    assert not folder or not os.path.isdir(folder)


async def test_a_start_beside_a_living_service_takes_nothing_from_it(sandbox: NamespacesSandbox) -> None:
    group = sandbox._cgroups
    if group is None:
        pytest.skip("no cgroup is delegated here")
    other = NamespacesSandbox(NamespacesConfig(slots=1, python=sys.executable))
    await other.start()  # sweeps
    await other.close()
    assert os.path.isdir(group.path)
    assert await outputs(sandbox, echo(b"5")) == [b"5\n"]


async def test_a_cgroup_that_somebody_removed_is_made_anew(sandbox: NamespacesSandbox) -> None:
    if sandbox._cgroups is None:
        pytest.skip("no cgroup is delegated here")
    await outputs(sandbox, echo(b"1"))
    await asyncio.sleep(0.2)
    for group in sandbox._cgroups._free:
        os.rmdir(group.path)
    assert await asyncio.gather(*(outputs(sandbox, echo(b"%d" % n)) for n in range(6))) == [[b"%d\n" % n] for n in range(6)]


@pytest.mark.parametrize("delay_s", [0.001, 0.02, 0.06, 0.15])
async def test_a_job_that_is_cancelled_while_its_zygote_starts_again_breaks_nothing(delay_s: float) -> None:
    sandbox = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable))
    await sandbox.start()
    try:
        first = sandbox.zygote_pids()["python"]
        family = {first, *descendants(first)}
        os.kill(first, signal.SIGKILL)
        await until_gone(family - {first})
        job = asyncio.create_task(outputs(sandbox, Job("python", ECHO, (TestInput(b"1\n"),))))
        await asyncio.sleep(delay_s)
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError, RunnerLost):
            await job
        for _ in range(5):
            assert await outputs(sandbox, Job("python", ECHO, (TestInput(b"1\n"),))) == [b"1\n"]
        zygote = sandbox._zygotes["python"]  # nothing outside shows whether ends of cells are still heard
        for _ in range(200):
            if len(zygote._ended) <= 2:  # the spare cells
                break
            await asyncio.sleep(0.02)
        assert len(zygote._ended) <= 2
    finally:
        await sandbox.close()


async def test_cells_of_jobs_that_are_cancelled_while_they_are_forked_are_used_or_ended() -> None:
    sandbox = NamespacesSandbox(NamespacesConfig(slots=4, python=sys.executable))
    await sandbox.start()
    try:
        for round_number in range(10):
            jobs = [asyncio.create_task(outputs(sandbox, Job("python", ECHO, (TestInput(b"1\n"),)))) for _ in range(8)]
            await asyncio.sleep(0.003 * round_number)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        await asyncio.sleep(0.5)
        init = children(sandbox.zygote_pids()["python"])[0]
        assert len(children(init)) <= 2 * 4  # spare cells, and what forks were under way
        assert await outputs(sandbox, Job("python", ECHO, (TestInput(b"1\n"),))) == [b"1\n"]
    finally:
        await sandbox.close()
