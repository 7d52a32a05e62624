"""Memo: what is asked for again is not computed again, and no one's failure is another's."""

from __future__ import annotations

import asyncio

import pytest

from reward_service.costs import ANSWER, PARTS_OF_ANSWER, Costs, units_of
from reward_service.effects import Task
from reward_service.memo import Memo, key_of
from reward_service.verifiers import choice, math


class Work:
    """Computes 7 when it is let to; counts how often it began and was given up."""

    def __init__(self) -> None:
        self.begun = self.given_up = 0
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.failures:
            raise self.failures.pop()
        return 7


def together(one: str, other: str) -> bool:
    return True


def apart(one: str, other: str) -> bool:
    return False


async def begun(work: Work, count: int) -> None:
    while work.begun < count:
        await asyncio.sleep(0)


async def test_what_is_known_is_not_computed_again() -> None:
    memo, work = Memo[int, str](10, together), Work()
    work.go.set()
    assert [await memo.get(b"a", "asker", work) for _ in range(3)] == [7, 7, 7]
    assert (work.begun, memo.hits, memo.misses) == (1, 2, 1)


async def test_who_asks_at_the_same_time_shares_the_work() -> None:
    memo, work = Memo[int, str](10, together), Work()
    asking = [asyncio.ensure_future(memo.get(b"a", "asker", work, keep=False)) for _ in range(100)]
    await begun(work, 1)
    work.go.set()
    assert await asyncio.gather(*asking) == [7] * 100
    assert (work.begun, memo.joined, len(memo)) == (1, 99, 0)


async def test_a_leader_that_leaves_hands_the_work_to_who_waits() -> None:
    memo, work = Memo[int, str](10, together), Work()
    leader = asyncio.ensure_future(memo.get(b"a", "asker", work))
    await begun(work, 1)
    follower = asyncio.ensure_future(memo.get(b"a", "asker", work))
    await asyncio.sleep(0)
    leader.cancel()
    await begun(work, 2)
    work.go.set()
    assert await follower == 7
    assert work.given_up == 1


async def test_a_failure_is_its_askers_own_and_is_not_kept() -> None:
    memo, work = Memo[int, str](10, together), Work()
    work.failures = [KeyError("ours")]
    leader = asyncio.ensure_future(memo.get(b"a", "asker", work))
    await begun(work, 1)
    follower = asyncio.ensure_future(memo.get(b"a", "asker", work))
    await asyncio.sleep(0)
    work.go.set()
    with pytest.raises(KeyError):
        await leader
    assert await follower == 7


async def test_nobody_waits_for_whoever_is_further_back_in_a_queue() -> None:
    memo, far_back, soon = Memo[int, str](10, apart), Work(), Work()
    first = asyncio.ensure_future(memo.get(b"a", "asker", far_back))
    await begun(far_back, 1)
    second = asyncio.ensure_future(memo.get(b"a", "other", far_back))
    await begun(far_back, 2)
    soon.go.set()
    assert memo.peek(b"a") is None
    assert await memo.get(b"a", "third", soon) == 7
    assert memo.peek(b"a") == 7
    assert await second == 7  # which gave up its own way
    assert far_back.given_up == 1
    far_back.go.set()
    assert await first == 7


async def test_the_least_recently_used_leave_first() -> None:
    memo, work = Memo[int, str](2, together), Work()
    work.go.set()
    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await memo.get(key, "asker", work)
    assert (len(memo), memo.hits) == (2, 2)


def test_keys_tell_apart_what_differs_and_take_any_text() -> None:
    keys = {key_of(*parts) for parts in (("ab", "c"), ("a", "bc"), ("a", ["b", "c"]), ("\ud800", "c"), ("\udc80", "c"), (1, "c"))}
    assert len(keys) == 6
    assert key_of("a", ("b",)) == key_of("a", ("b",))


def test_costs_are_learned_by_kind_and_unit() -> None:
    costs = Costs({"program": 0.5})
    assert costs.estimate_s("program", 20) == 10
    for _ in range(500):
        costs.learn("program", 10, 1.0)
    assert costs.estimate_s("program") == pytest.approx(0.1, rel=0.01)
    assert units_of(("x" * 4096, 3, ["y" * 512, "z" * 512], [])) == 2 + 1.25


def test_what_an_answer_takes_counts_all_that_is_done_for_it() -> None:
    """Judged lightly in chunks; some go to SymPy, and each group's reference is read: none of that is an answer more."""
    costs = Costs({ANSWER: 0.005})
    for _ in range(200):
        costs.learn("prepare_lightly", 1, 0.01)
        costs.learn("compare_lightly", 30, 0.03)
        costs.learn("compare_answers", 1, 0.2)
    assert costs.estimate_s("compare_lightly") == pytest.approx(0.001, rel=0.01)
    assert costs.estimate_s("compare_answers") == pytest.approx(0.2, rel=0.01)
    assert costs.estimate_s(ANSWER) == pytest.approx(0.24 / 30, rel=0.06)


def test_the_parts_of_an_answer_are_the_work_that_there_is() -> None:
    assert {task.function.__qualname__ for module in (math, choice) for task in vars(module).values() if isinstance(task, Task)} == set(
        PARTS_OF_ANSWER
    )


def test_what_runs_is_known_to_take_at_least_as_long_as_it_has() -> None:
    """A queue of work that is a hundred times as dear as believed must not be filled before the first of it is done."""
    now_s = 100.0
    costs = Costs({"program": 0.02}, lambda: now_s)
    begun = [costs.begin("program", 2) for _ in range(2)]
    assert costs.estimate_s("program", 10) == pytest.approx(0.2)
    now_s += 2
    assert costs.estimate_s("program", 1) == pytest.approx(4.08 / 8)
    now_s += 3
    for begun_s in begun:
        costs.end("program", 2, begun_s)
    assert 1.2 < costs.estimate_s("program", 1) < 2.5
    for seconds in (0.1, 0.0):  # what found everything known already says nothing
        begun_s, before = costs.begin("program", 2), costs.estimate_s("program")
        now_s += seconds
        costs.end("program", 2, begun_s, 0.001)
        assert (costs.estimate_s("program") == before) == (seconds == 0.0)


def test_many_at_the_same_time_are_no_dearer_than_one() -> None:
    now_s = 0.0
    costs = Costs({"program": 0.02}, lambda: now_s)
    for _ in range(20):
        begun = [costs.begin("program", 20) for _ in range(64)]
        for _ in range(4):
            now_s += 0.1
            assert costs.estimate_s("program") == pytest.approx(0.02)
        for begun_s in begun:
            costs.end("program", 20, begun_s)
