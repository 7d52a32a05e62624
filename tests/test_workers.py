"""Workers: nothing an item does hurts its neighbours, and what hurts a worker from outside changes no result."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from reward_service.effects import Task
from reward_service.errors import Cancelled, JobKilled, RewardServiceError, WorkerLost
from reward_service.records import Completion, LanguageFinding
from reward_service.worker_process import PATIENCE
from reward_service.workers import WorkerPool

TESTS = str(Path(__file__).parent)
ROOT = str(Path(__file__).parent.parent)
sys.path.append(TESTS)  # workers import from where we do

import worker_tasks as tasks  # noqa: E402

DOUBLE = Task(tasks.double, int)
PID = Task(tasks.pid, int)


@asynccontextmanager
async def pool(count: int = 2, memory_bytes: int = 134_217_728, **options: Any) -> AsyncIterator[WorkerPool]:
    workers = WorkerPool(count, memory_bytes, prefixes=("reward_service", "worker_tasks"), preload=("worker_tasks",), **options)
    await workers.start()
    try:
        yield workers
    finally:
        await workers.close()


def with_pool(test: Callable[[WorkerPool], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with pool(**options) as workers:
            await test(workers)

    asyncio.run(run())


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pids: tuple[int, ...], within_s: float = 5.0) -> bool:
    end_s = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < end_s:
        await asyncio.sleep(0.01)
    return not any(map(alive, pids))


def test_a_thousand_quick_items_come_back_each_with_its_own_result() -> None:
    async def test(workers: WorkerPool) -> None:
        assert await asyncio.gather(*(workers.run(DOUBLE, number) for number in range(1000))) == [2 * number for number in range(1000)]
        assert workers.stats.items == 1000

    with_pool(test)


def test_kill_nine_of_random_workers_changes_no_result() -> None:
    async def test(workers: WorkerPool) -> None:
        spin = Task(tasks.spin, int)

        async def murder() -> None:
            dice = random.Random(1)
            for _ in range(6):
                await asyncio.sleep(0.03)
                if workers.pids:
                    os.kill(dice.choice(workers.pids), signal.SIGKILL)

        batch = asyncio.gather(*(workers.run(spin, 0.002) for _ in range(200)))
        await murder()
        assert await batch == [1] * 200
        assert workers.stats.restarts > 0

    with_pool(test)


@pytest.mark.parametrize(
    ("function", "args", "cause"),
    [
        (tasks.spin, (30.0,), "cpu_limit"),
        (tasks.hoard, (1 << 30,), "memory_limit"),
        (tasks.crash, (), "signal"),
        (tasks.fail, (), "exception"),
        (tasks.recurse, (), "exception"),
        (tasks.leave, (), "exception"),
        (tasks.quit_politely, (), "exception"),
    ],
)
def test_what_an_item_does_to_its_worker_is_its_own_doing(function: Any, args: tuple[object, ...], cause: str) -> None:
    async def test(workers: WorkerPool) -> None:
        with pytest.raises(JobKilled) as caught:
            await workers.run(Task(function, int, cpu_s=0.2), *args)
        assert caught.value.cause == cause
        assert "secret" not in str(caught.value)
        assert await workers.run(DOUBLE, 4) == 8

    with_pool(test)


def test_a_neighbour_answers_while_an_item_never_ends() -> None:
    async def test(workers: WorkerPool) -> None:
        endless = asyncio.ensure_future(workers.run(Task(tasks.spin, int, cpu_s=1.0), 60.0))
        await asyncio.sleep(0.05)
        assert await workers.run(DOUBLE, 1) == 2
        assert not endless.done()
        with pytest.raises(JobKilled):
            await endless

    with_pool(test)


def test_a_killed_worker_is_replaced_at_once() -> None:
    async def test(workers: WorkerPool) -> None:
        with pytest.raises(JobKilled):
            await workers.run(Task(tasks.hoard, int), 1 << 30)
        start_s = time.monotonic()
        assert await workers.run(DOUBLE, 1) == 2
        assert time.monotonic() - start_s < 5.0  # a worker was ready; one that starts then takes as long as its imports

    with_pool(test, count=1)


def test_deadlines_count_cpu_time_and_waiting_is_tried_again_alone() -> None:
    async def test(workers: WorkerPool) -> None:
        assert await workers.run(Task(tasks.sleep, int, cpu_s=0.1), 0.5) == 1  # five times its limit in wall time
        start_s = time.monotonic()
        with pytest.raises(JobKilled) as caught:
            await workers.run(Task(tasks.sleep, int, cpu_s=0.05), 60.0)
        assert caught.value.cause == "wall_limit"
        assert time.monotonic() - start_s > (1 + PATIENCE) * 2.1

    with_pool(test)


def test_a_worker_that_is_stopped_from_outside_costs_nothing_but_time() -> None:
    async def test(workers: WorkerPool) -> None:
        work = asyncio.ensure_future(workers.run(Task(tasks.spin, int, cpu_s=0.3), 0.1))
        await asyncio.sleep(0.02)
        os.kill(workers.pids[-1], signal.SIGSTOP)  # the busy one
        assert await work == 1

    with_pool(test, count=1)


def test_sigkill_again_and_again_is_ours() -> None:
    async def test(workers: WorkerPool) -> None:
        with pytest.raises(WorkerLost):
            await workers.run(Task(tasks.kill_self, int))
        assert await workers.run(DOUBLE, 1) == 2

    with_pool(test)


def test_workers_that_are_killed_while_they_start_cost_nobody_a_result() -> None:
    async def test(workers: WorkerPool) -> None:
        killed: set[int] = set()

        def kill_all() -> None:
            for pid in _worker_pids() - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)

        kill_all()
        waiting = asyncio.ensure_future(workers.run(DOUBLE, 21))
        while len(killed) < 12:  # more than an item's five deaths, and more than the five starts that may fail
            kill_all()
            await asyncio.sleep(0.001)
            assert not waiting.done()
        assert await waiting == 42

    with_pool(test, count=1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_that_ended_while_idle_cost_nobody_a_result(loop: str) -> None:
    """Their end is seen in two steps, the connection's and the process's, and items come between these."""

    async def test() -> None:
        async with pool(count=2) as workers:
            for turn in range(3):
                for worker in workers._idle:
                    assert worker._transport is not None
                    assert worker.process is not None
                    worker.process.kill()
                    worker._transport.abort()
                assert await asyncio.gather(*(workers.run(DOUBLE, number) for number in range(turn, 9))) == [2 * k for k in range(turn, 9)]
            for pid in workers.pids:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)  # the ends arrive all at once
            assert await workers.run(DOUBLE, 21) == 42

    asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None).run(test())


def _worker_pids() -> set[int]:
    """Processes that this one has started as workers, also those that are not ready yet."""
    children = Path(f"/proc/self/task/{threading.main_thread().native_id}/children").read_text().split()
    return {int(pid) for pid in children if b"worker_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_polite_signal_from_outside_does_nothing() -> None:
    async def test(workers: WorkerPool) -> None:
        assert await workers.run(Task(tasks.terminate_self, int)) == 1

    with_pool(test)


def test_a_cancelled_item_never_answers_for_the_next() -> None:
    async def test(workers: WorkerPool) -> None:
        slow = asyncio.ensure_future(workers.run(Task(tasks.spin, int), 0.2))
        waiting = [asyncio.ensure_future(workers.run(DOUBLE, number)) for number in range(10)]
        await asyncio.sleep(0.05)
        slow.cancel()
        waiting[3].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [result for index, result in enumerate(results) if index != 3] == [2 * number for number in range(10) if number != 3]
        assert isinstance(results[3], asyncio.CancelledError)
        assert workers.stats.busy == 0
        assert workers.stats.waiting == 0

    with_pool(test, count=1)


def test_the_loop_of_another_thread() -> None:
    results: list[int] = []

    async def test(workers: WorkerPool) -> None:
        results.append(await workers.run(DOUBLE, 21))
        with pytest.raises(JobKilled):
            await workers.run(Task(tasks.spin, int, cpu_s=0.1), 30.0)

    thread = threading.Thread(target=lambda: with_pool(test))
    thread.start()
    thread.join(20)
    assert results == [42]


def test_workers_die_with_their_parent() -> None:
    script = (
        "import asyncio, sys\n"
        f"sys.path[:0] = [{ROOT!r}, {TESTS!r}]\n"
        "import worker_tasks\n"
        "from reward_service.workers import WorkerPool\n"
        "from reward_service.effects import Task\n"
        "async def main():\n"
        "    pool = WorkerPool(2, 1 << 27, prefixes=('worker_tasks',), preload=('worker_tasks',))\n"
        "    await pool.start()\n"
        "    asyncio.ensure_future(pool.run(Task(worker_tasks.spin, int, 60.0), 60.0))\n"
        "    await asyncio.sleep(0.05)\n"
        "    print(*pool.pids, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = tuple(map(int, parent.stdout.readline().split()))
        assert len(pids) == 3
        assert all(map(alive, pids))
        parent.kill()
    assert asyncio.run(gone(pids))


def test_nothing_survives_close_and_what_waits_is_cancelled() -> None:
    async def test() -> None:
        async with pool(count=1) as workers:
            pids = workers.pids
            running = asyncio.ensure_future(workers.run(Task(tasks.spin, int, 60.0), 60.0))
            waiting = asyncio.ensure_future(workers.run(DOUBLE, 1))
            await asyncio.sleep(0.05)
            await workers.close()
            for item in (running, waiting):
                with pytest.raises(Cancelled):
                    await item
            with pytest.raises(Cancelled):
                await workers.run(DOUBLE, 1)
        assert await gone(pids, 1.0)

    asyncio.run(test())


def test_workers_retire_and_nobody_notices() -> None:
    async def test(workers: WorkerPool) -> None:
        pids = [await workers.run(PID) for _ in range(30)]
        assert len(set(pids)) >= 5

    with_pool(test, count=1, retire_items=5)


def test_a_worker_whose_memory_grew_retires() -> None:
    async def test(workers: WorkerPool) -> None:
        before = workers.pids
        assert await workers.run(Task(tasks.leak, int), 100 << 20) == 100 << 20
        assert await gone(before[-1:], 2.0)

    with_pool(test, count=1, memory_bytes=1 << 28, retire_bytes=50 << 20)


def test_surrogates_dataclasses_and_recursive_data_cross_the_border() -> None:
    async def test(workers: WorkerPool) -> None:
        assert await workers.run(Task(tasks.echo, str), "a\udfffb\U0001f600") == "a\ufffdb\U0001f600"
        assert await workers.run(Task(tasks.lone_surrogate, str)) == "a\ufffdb"
        assert await workers.run(Task(tasks.swap, Completion), Completion("x", "y")) == Completion("y", "x")
        finding = LanguageFinding(True, {"spans": [{"text": "a", "language": None}]})
        assert await workers.run(Task(tasks.finding, LanguageFinding)) == finding
        assert len(await workers.run(Task(tasks.echo, str), "x" * 5_000_000)) == 5_000_000

    with_pool(test)


@pytest.mark.parametrize("function", [os.getpid, subprocess.getoutput])
def test_functions_of_other_packages_are_refused(function: Any) -> None:
    async def test(workers: WorkerPool) -> None:
        with pytest.raises(WorkerLost):
            await workers.run(Task(function, str), *(["id"] if function is not os.getpid else []))

    with_pool(test)


@pytest.mark.parametrize("function", [tasks.wrong_type, tasks.not_data])
def test_a_result_of_another_type_is_our_fault(function: Any) -> None:
    async def test(workers: WorkerPool) -> None:
        with pytest.raises(WorkerLost):
            await workers.run(Task(function, int))

    with_pool(test)


def test_what_was_random_repeats_and_no_secret_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_KEYS", "secret")
    seen: list[tuple[float, int]] = []

    async def test(workers: WorkerPool) -> None:
        draws = [await workers.run(Task(tasks.draw, float)) for _ in range(3)]
        assert len(set(draws)) == 1
        seen.append((draws[0], await workers.run(Task(tasks.text_hash, int))))
        assert "REWARD_KEYS" not in await workers.run(Task(tasks.environment, list[str]))

    with_pool(test)
    with_pool(test)
    assert seen[0] == seen[1]


def test_a_pool_that_cannot_start_says_why() -> None:
    async def test() -> None:
        workers = WorkerPool(1, 1 << 27, preload=("reward_service.no_such_module",))
        with pytest.raises(RewardServiceError, match="no_such_module"):
            await workers.start()

    asyncio.run(test())


def test_the_loop_is_never_blocked() -> None:
    async def test(workers: WorkerPool) -> None:
        longest_s = 0.0

        async def watch() -> None:
            nonlocal longest_s
            while True:
                start_s = time.monotonic()
                await asyncio.sleep(0.001)
                longest_s = max(longest_s, time.monotonic() - start_s)

        watcher = asyncio.ensure_future(watch())
        spin = Task(tasks.spin, int, cpu_s=0.1)
        await asyncio.gather(*(workers.run(spin, 60.0) for _ in range(4)), return_exceptions=True)
        watcher.cancel()
        assert longest_s < 0.25

    with_pool(test)
