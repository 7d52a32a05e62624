from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.length import overlong_penalty

BOUNDS = st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)).map(sorted)


@pytest.mark.parametrize(
    ("tokens", "penalty"),
    [
        (0, 0.0),
        (16383, 0.0),
        (16384, 0.0),
        (16385, -1 / 4096),
        (17408, -0.25),
        (18432, -0.5),
        (20479, -4095 / 4096),
        (20480, -1.0),
        (20481, -1.0),
    ],
)
def test_equation_1(tokens: int, penalty: float) -> None:
    assert overlong_penalty(tokens, 16384, 20480) == penalty


def test_no_cache_is_a_step_above_the_limit() -> None:
    assert [overlong_penalty(tokens, 10, 10) for tokens in (9, 10, 11)] == [0.0, 0.0, -1.0]


def test_a_cache_of_all_falls_from_the_first_token() -> None:
    assert [overlong_penalty(tokens, 0, 4) for tokens in range(6)] == [0.0, -0.25, -0.5, -0.75, -1.0, -1.0]


@given(BOUNDS, st.integers(0, 10**9), st.integers(0, 10**9))
def test_never_rises_never_leaves_its_range_never_minus_zero(bounds: list[int], tokens: int, more: int) -> None:
    penalty = overlong_penalty(tokens, *bounds)
    assert -1.0 <= overlong_penalty(tokens + more, *bounds) <= penalty <= 0.0
    assert penalty != 0.0 or math.copysign(1.0, penalty) == 1.0


@pytest.mark.parametrize("arguments", [(-1, 0, 1), (0, -1, 1), (0, 2, 1)])
def test_nonsense_is_the_callers_fault(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        overlong_penalty(*arguments)
