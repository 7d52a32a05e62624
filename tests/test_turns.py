"""Turns: fair between shares, bounded, and no permit is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_service.errors import DeadlineExceeded
from reward_service.turns import Turns


async def hold(turns: Turns, share: str, log: list[str], start_by: float | None = None) -> None:
    async with turns.take(share, start_by):
        log.append(share)
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(main())


def test_a_single_item_gets_the_next_free_slot_though_thousands_wait() -> None:
    async def test() -> None:
        turns, log = Turns(2), []  # type: tuple[Turns, list[str]]
        many = [asyncio.ensure_future(hold(turns, "batch", log)) for _ in range(2048)]
        await asyncio.sleep(0)
        started = len(log)
        single = asyncio.ensure_future(hold(turns, "single", log))
        await asyncio.gather(single, *many)
        assert log.index("single") <= started + 2
        assert len(log) == 2049
        assert (turns.busy, turns.waiting) == (0, 0)

    run(test)


def test_shares_take_turns() -> None:
    async def test() -> None:
        turns, log = Turns(1), []  # type: tuple[Turns, list[str]]
        async with turns.take("first"):
            waiting = [asyncio.ensure_future(hold(turns, share, log)) for share in ("a",) * 4 + ("b",) * 4 + ("c",) * 2]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert log == ["a", "b", "c", "a", "b", "c", "a", "b", "a", "b"]

    run(test)


def test_a_share_that_asks_one_by_one_gains_nothing() -> None:
    async def test() -> None:
        turns, log = Turns(1), []  # type: tuple[Turns, list[str]]
        many = [asyncio.ensure_future(hold(turns, "many", log)) for _ in range(50)]
        await asyncio.sleep(0)
        for _ in range(10):
            await hold(turns, "pushy", log)
        upto = log[: len(log) - log[::-1].index("pushy")]
        assert upto.count("many") >= 10
        await asyncio.gather(*many)

    run(test)


def test_never_more_than_slots() -> None:
    async def test() -> None:
        turns, now, most = Turns(3), 0, 0

        async def item(share: str) -> None:
            nonlocal now, most
            async with turns.take(share):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(item(str(number % 4)) for number in range(40)))
        assert most == 3

    run(test)


def test_a_deadline_that_has_passed_is_refused_though_slots_are_free() -> None:
    async def test() -> None:
        turns = Turns(1)
        with pytest.raises(DeadlineExceeded):
            await hold(turns, "a", [], asyncio.get_running_loop().time() - 1)
        assert turns.busy == 0

    run(test)


def test_who_waits_beyond_the_deadline_is_told_and_leaves_no_hole() -> None:
    async def test() -> None:
        turns, log = Turns(1), []  # type: tuple[Turns, list[str]]
        async with turns.take("holder"):
            late = asyncio.ensure_future(hold(turns, "a", log, asyncio.get_running_loop().time() + 0.02))
            patient = asyncio.ensure_future(hold(turns, "a", log, asyncio.get_running_loop().time() + 60))
            with pytest.raises(DeadlineExceeded):
                await late
        await patient
        assert log == ["a"]
        assert (turns.busy, turns.waiting) == (0, 0)

    run(test)


def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    async def test() -> None:
        turns, log = Turns(1), []  # type: tuple[Turns, list[str]]
        async with turns.take("holder"):
            doomed = asyncio.ensure_future(hold(turns, "a", log))
            heir = asyncio.ensure_future(hold(turns, "b", log))
            await asyncio.sleep(0)
        doomed.cancel()  # its turn was granted when the holder left, but it has not run yet
        with pytest.raises(asyncio.CancelledError):
            await doomed
        await heir
        assert log == ["b"]
        assert turns.busy == 0

    run(test)


def test_an_error_inside_gives_the_permit_back() -> None:
    async def test() -> None:
        turns = Turns(1)
        with pytest.raises(KeyError):
            async with turns.take("a"):
                raise KeyError
        await hold(turns, "a", [])
        assert turns.busy == 0

    run(test)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["run", "cancel", "late"]), st.integers(0, 3)), max_size=40),
    st.integers(1, 3),
)
def test_no_permit_is_lost_whatever_happens(plan: list[tuple[str, str, int]], slots: int) -> None:
    async def test() -> None:
        turns, log = Turns(slots), []  # type: tuple[Turns, list[str]]
        items = []
        for share, fate, pause in plan:
            start_by = asyncio.get_running_loop().time() + 0.0001 if fate == "late" else None
            items.append(asyncio.ensure_future(hold(turns, share, log, start_by)))
            for _ in range(pause):
                await asyncio.sleep(0)
            if fate == "cancel":
                items[-1].cancel()
        results = await asyncio.gather(*items, return_exceptions=True)
        allowed = asyncio.CancelledError | DeadlineExceeded
        assert all(result is None or isinstance(result, allowed) for result in results)
        assert (turns.busy, turns.waiting) == (0, 0)
        await asyncio.gather(*(hold(turns, "after", log) for _ in range(slots)))

    run(test)


def test_slots_must_be_positive() -> None:
    with pytest.raises(ValueError, match="slots"):
        Turns(0)
