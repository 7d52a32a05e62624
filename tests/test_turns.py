"""Turns: fair between shares, bounded, and no permit is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_service.errors import DeadlineExceeded
from reward_service.turns import LEAST_COST_S, Share, Turns


class Shares(dict[str, Share]):
    """Shares by name, all of one flow."""

    def __missing__(self, name: str) -> Share:
        return self.setdefault(name, Share("flow"))


class Gate(Turns):
    """Turns at which no time passes, and their shares by name."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots, clock=lambda: 0.0)
        self.shares = Shares()


async def hold(turns: Gate, share: str | Share, log: list[str], start_by: float | None = None, cost_s: float = LEAST_COST_S) -> None:
    name = share if isinstance(share, str) else share.flow
    async with turns.take(turns.shares[share] if isinstance(share, str) else share, start_by, cost_s):
        log.append(name)
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(main())


def test_a_single_item_gets_the_next_free_slot_though_thousands_wait() -> None:
    async def test() -> None:
        turns, log = Gate(2), []  # type: tuple[Gate, list[str]]
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
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        async with turns.take(Share("other")):
            waiting = [asyncio.ensure_future(hold(turns, share, log)) for share in ("a",) * 4 + ("b",) * 4 + ("c",) * 2]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert log == ["a", "b", "c", "a", "b", "c", "a", "b", "a", "b"]

    run(test)


def test_a_share_that_asks_one_by_one_gains_nothing() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
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
        turns, now, most = Gate(3), 0, 0

        async def item(share: str) -> None:
            nonlocal now, most
            async with turns.take(turns.shares[share]):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(item(str(number % 4)) for number in range(40)))
        assert most == 3

    run(test)


def test_a_deadline_that_has_passed_is_refused_though_slots_are_free() -> None:
    async def test() -> None:
        turns = Gate(1)
        with pytest.raises(DeadlineExceeded):
            await hold(turns, "a", [], asyncio.get_running_loop().time() - 1)
        assert turns.busy == 0

    run(test)


def test_who_waits_beyond_the_deadline_is_told_and_leaves_no_hole() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        async with turns.take(Share("other")):
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
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        async with turns.take(Share("other")):
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
        turns = Gate(1)
        with pytest.raises(KeyError):
            async with turns.take(Share("a")):
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
        turns, log = Gate(slots), []  # type: tuple[Gate, list[str]]
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


# ---- flows, weights, costs -------------------------------------------------------------------------------------------


def test_a_flood_of_one_flow_does_not_hold_up_another_flow() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        flood = [asyncio.ensure_future(hold(turns, Share("flood"), log)) for _ in range(500)]
        await asyncio.sleep(0)
        trickle = [asyncio.ensure_future(hold(turns, Share("trickle"), log)) for _ in range(20)]
        await asyncio.gather(*trickle)
        assert len(log) <= 2 * 20 + 3
        await asyncio.gather(*flood)

    run(test)


def test_flows_get_slot_time_by_their_weights() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        async with turns.take(Share("other")):
            items = [asyncio.ensure_future(hold(turns, Share(flow, weight), log)) for flow, weight in (("a", 3.0), ("b", 1.0)) * 200]
            await asyncio.sleep(0)
        await asyncio.gather(*items)
        assert 140 <= log[:200].count("a") <= 160

    run(test)


def test_an_estimate_that_was_wrong_is_corrected_by_the_time_held() -> None:
    async def test() -> None:
        now = 0.0
        turns, log = Turns(1, clock=lambda: now), []  # type: tuple[Turns, list[str]]

        async def item(share: Share, seconds: float) -> None:
            nonlocal now
            async with turns.take(share, None, 0.1):
                log.append(share.flow)
                now += seconds
                await asyncio.sleep(0)

        async with turns.take(Share("other")):
            items = [asyncio.ensure_future(item(Share("hog"), 1.0)) for _ in range(20)]
            items += [asyncio.ensure_future(item(Share("modest"), 0.1)) for _ in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*items)
        assert log[:110].count("hog") <= 12
        assert log[:110].count("modest") >= 98

    run(test)


def test_within_a_flow_the_shortest_request_goes_first_and_none_starves() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        async with turns.take(Share("other")):
            batch = [asyncio.ensure_future(hold(turns, "batch", log, cost_s=1.0)) for _ in range(10)]
            await asyncio.sleep(0)
            single = asyncio.ensure_future(hold(turns, "single", log, cost_s=0.5))
            await asyncio.sleep(0)
        await asyncio.gather(single, *batch)
        assert log[0] == "single"

        log.clear()
        batch = [asyncio.ensure_future(hold(turns, "batch", log)) for _ in range(5)]
        singles = []
        for number in range(200):
            singles.append(asyncio.ensure_future(hold(turns, f"single{number}", log)))
            await asyncio.sleep(0)
        await asyncio.gather(*batch)
        assert log.count("batch") == 5
        await asyncio.gather(*singles)

    run(test)


def test_within_a_request_the_shortest_item_goes_first() -> None:
    async def test() -> None:
        turns, order, share = Gate(1), [], Share("flow")  # type: tuple[Gate, list[float], Share]

        async def item(cost_s: float) -> None:
            async with turns.take(share, None, cost_s):
                order.append(cost_s)

        async with turns.take(Share("other")):
            items = [asyncio.ensure_future(item(cost_s)) for cost_s in (3.0, 1.0, 2.0)]
            await asyncio.sleep(0)
        await asyncio.gather(*items)
        assert order == [1.0, 2.0, 3.0]

    run(test)


def test_it_says_how_long_a_share_waited() -> None:
    async def test() -> None:
        now, waits = 0.0, []  # type: tuple[float, list[float]]
        turns, share = Turns(1, clock=lambda: now, on_wait=waits.append), Share("flow")
        async with turns.take(Share("other")):
            items = [asyncio.ensure_future(_pass(turns, share)) for _ in range(3)]
            await asyncio.sleep(0)
            now = 5.0
        await asyncio.gather(*items)
        assert share.waiting_s == 5.0
        assert waits == [0.0, 5.0, 5.0, 5.0]

    run(test)


async def _pass(turns: Turns, share: Share) -> None:
    async with turns.take(share):
        pass


def test_flows_that_are_gone_are_forgotten() -> None:
    async def test() -> None:
        turns = Turns(1)
        for number in range(5000):
            await _pass(turns, Share(str(number)))
        assert len(turns._flows) <= 1025

    run(test)


def test_permits_come_and_go_with_the_runners() -> None:
    async def test() -> None:
        turns, log = Gate(1), list[str]()
        held = [turns.take(turns.shares["a"]) for _ in range(3)]
        await held[0].__aenter__()
        waiting = [asyncio.create_task(held[n].__aenter__()) for n in (1, 2)]
        await asyncio.sleep(0)
        turns.resize(3)
        await asyncio.gather(*waiting)
        assert (turns.busy, turns.slots) == (3, 3)
        turns.resize(1)
        late = asyncio.create_task(hold(turns, "a", log))
        for n in (0, 1):
            await held[n].__aexit__(None, None, None)
            await asyncio.sleep(0)
            assert log == [], "more is held than there is"
        await held[2].__aexit__(None, None, None)
        await late
        assert (log, turns.busy) == (["a"], 0)

    run(test)


def test_estimates_that_fall_let_no_newcomer_pass_those_that_wait() -> None:
    async def test() -> None:
        turns, order = Gate(1), []  # type: tuple[Gate, list[int]]

        async def item(number: int) -> None:
            async with turns.take(Share("flow"), None, 1.0 / (number + 1)):
                order.append(number)
                await asyncio.sleep(0)

        async with turns.take(Share("other")):
            early = [asyncio.ensure_future(item(number)) for number in range(50)]
            await asyncio.sleep(0)
        late = []
        for number in range(50, 150):  # one more for each that is served
            late.append(asyncio.ensure_future(item(number)))
            await asyncio.sleep(0)
        await asyncio.gather(*early, *late)
        assert max(order.index(number) for number in range(50)) < 60

    run(test)


def test_who_is_served_no_later_than_whom() -> None:
    async def test() -> None:
        turns, log = Gate(1), []  # type: tuple[Gate, list[str]]
        batch, single, stranger, holder = (Share(flow) for flow in ("flow", "flow", "stranger", "holder"))
        assert turns.ahead(batch, stranger)  # nobody waits
        async with turns.take(batch, None, 1.0):
            items = [asyncio.ensure_future(hold(turns, batch, log, cost_s=1.0)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not turns.ahead(batch, stranger)
            items.append(asyncio.ensure_future(hold(turns, single, log)))
            await asyncio.sleep(0)
            assert turns.ahead(single, Share("flow"))
            assert turns.ahead(single, batch)
            assert turns.ahead(holder, Share("holder"))  # about to ask
            assert not turns.ahead(holder, stranger)
        await asyncio.gather(*items)

    run(test)
