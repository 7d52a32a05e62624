"""Small items of many requests go to a worker together, and come to what each would alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reward_service.costs import Costs, units_of
from reward_service.effects import Task
from reward_service.errors import DeadlineExceeded, JobKilled, WorkerLost
from reward_service.gathering import ALONE, BATCH_ITEMS, Gatherer
from reward_service.turns import Share, Turns
from reward_service.verifiers.math import COMPARE, PREPARE
from reward_service.workers import WorkerPool


class Pool:
    """Runs items in the test's own process when it is let to; notes how many calls each held."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.sizes: list[int] = []
        self.go = asyncio.Event()
        self.failure = failure

    async def run(self, task: Task[Any], *args: Any) -> Any:
        together = task.function.__name__ == "run_many"
        self.sizes.append(len(args[0]) if together else 1)
        await self.go.wait()
        if self.failure is not None and together:
            raise self.failure
        return task.function(*args)


def gatherer(pool: Any, slots: int = 2) -> Gatherer:
    return Gatherer(pool, 1, Turns(slots), Costs({}))


def asked(gathering: Gatherer, answer: str, flow: str = "anyone", start_by: float | None = None) -> asyncio.Task[object]:
    args = (["7"], [answer], list[str]())
    share = Share(flow, single=True)
    return asyncio.ensure_future(gathering.run(share, start_by, COMPARE, "compare_lightly", units_of(args), args))


def equal(found: Any) -> list[bool]:
    return [comparison.equal for (comparison,) in found]


async def test_what_comes_together_goes_together() -> None:
    pool = Pool()
    gathering = gatherer(pool)
    asking = [asked(gathering, str(number)) for number in range(10)]
    pool.go.set()
    assert equal(await asyncio.gather(*asking)) == [number == 7 for number in range(10)]
    assert pool.sizes == [10]
    assert not gathering._flows


async def test_what_comes_meanwhile_goes_next_and_no_batch_is_large() -> None:
    pool = Pool()
    gathering = gatherer(pool)
    asking = [asked(gathering, "7")]
    while not pool.sizes:
        await asyncio.sleep(0)
    asking += [asked(gathering, str(number)) for number in range(BATCH_ITEMS + 5)]
    pool.go.set()
    assert sum(equal(await asyncio.gather(*asking))) == 2
    assert pool.sizes == [1, BATCH_ITEMS, 5]


async def test_flows_take_turns() -> None:
    pool = Pool()
    gathering = gatherer(pool, slots=1)
    asking = [asked(gathering, "7", flow) for flow in ("flood",) * 2 * BATCH_ITEMS + ("trickle",)]
    for _ in range(10):
        await asyncio.sleep(0)
    pool.go.set()
    await asyncio.gather(*asking)
    assert pool.sizes == [BATCH_ITEMS, 1, BATCH_ITEMS]


@pytest.mark.parametrize("failure", [JobKilled("cpu_limit"), JobKilled("exception"), JobKilled("memory_limit"), WorkerLost("five times")])
async def test_what_ends_a_batch_says_nothing_of_its_items(failure: Exception) -> None:
    pool = Pool(failure)
    asking = [asked(gathering, "7") for gathering in [gatherer(pool)] for _ in range(3)]
    pool.go.set()
    assert await asyncio.gather(*asking) == [ALONE] * 3


async def test_an_item_that_is_alone_keeps_what_it_came_to() -> None:
    pool = Pool()
    pool.go.set()
    task = Task(_killed, str)
    args = ("7",)
    assert await gatherer(pool).run(Share("anyone"), None, task, "killed", units_of(args), args) is ALONE
    killed = await gatherer(_Killing()).run(Share("anyone"), None, PREPARE, "prepare_lightly", 1.0, args)
    assert isinstance(killed, JobKilled)
    assert killed.cause == "cpu_limit"


def _killed(text: str) -> str:
    raise WorkerLost(text)


class _Killing:
    async def run(self, task: Task[Any], *args: Any) -> Any:
        raise JobKilled("cpu_limit")


async def test_what_has_not_started_at_its_deadline_never_starts() -> None:
    pool = Pool()
    gathering = gatherer(pool)
    first = asked(gathering, "7")
    while not pool.sizes:
        await asyncio.sleep(0)
    late = asked(gathering, "8", start_by=asyncio.get_running_loop().time() + 0.02)
    with pytest.raises(DeadlineExceeded):
        await late
    with pytest.raises(DeadlineExceeded):
        await asked(gathering, "8", start_by=asyncio.get_running_loop().time())
    gone = asked(gathering, "9")
    await asyncio.sleep(0)
    gone.cancel()
    last = asked(gathering, "7")
    pool.go.set()
    assert equal(await asyncio.gather(first, last)) == [True, True]
    assert pool.sizes == [1, 1]


async def test_large_and_heavy_items_are_left_alone() -> None:
    gathering = gatherer(Pool())
    args = (["7"], ["7" * 5000], list[str]())
    assert await gathering.run(Share("anyone"), None, COMPARE, "compare_lightly", units_of(args), args) is ALONE
    heavy = Task(COMPARE.function, COMPARE.result, heavy=True)
    assert await gathering.run(Share("anyone"), None, heavy, "compare_lightly", 1.0, args) is ALONE


async def test_real_workers_come_to_the_same() -> None:
    pool = WorkerPool(1, 1 << 28)
    await pool.start()
    try:
        gathering = Gatherer(pool, 1, Turns(2), Costs({}))
        answers = ["7", "\\frac{14}{2}", "8", "", "seven \udcff", "7.0"]
        together = await asyncio.gather(*(asked(gathering, answer) for answer in answers))
        assert together == [await pool.run(COMPARE, ["7"], [answer], []) for answer in answers]
        before = pool.stats.items
        both: Any = await asyncio.gather(
            *(gathering.run(Share("anyone"), None, PREPARE, "prepare_lightly", 1.0, (gold,)) for gold in ("7", "\\frac{1}{", "x"))
        )
        assert both == [await pool.run(PREPARE, gold) for gold in ("7", "\\frac{1}{", "x")]
        assert pool.stats.items - before == 1 + 3
    finally:
        await pool.close()
