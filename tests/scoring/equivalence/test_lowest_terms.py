"""Zeros of quotients in lowest terms: what is proportional, and by what denominators it differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.equivalence.forms import Expression, Value
from reward_service.scoring.equivalence.lowest_terms import Comparison, compare_zeros
from reward_service.scoring.equivalence.parse import read_answer


def tree(text: str) -> Expression:
    (form,) = read_answer(text).forms
    assert isinstance(form, Value)
    return form.expression


def compared(one: str, other: str) -> Comparison | None:
    return compare_zeros(tree(one), tree(other))


@pytest.mark.parametrize(
    ("one", "other", "denominators"),
    [
        ("xy-4", r"y-\frac{4}{x}", {"x"}),
        (r"\sqrt{6}x-\sqrt{2}y", r"\sqrt{3}x-y", set()),
        (r"(1+i)z-2", r"z-1+i", set()),
        (r"\pi x-\pi^2", r"x-\pi", set()),
        (r"\frac{x^2-1}{x-1}", "x+1", set()),
        (r"\frac{(x-y)(x+y)}{x+y}", r"\frac{x-y}{z}", {"z"}),
        (r"\sqrt{x}-1", r"\frac{x-1}{\sqrt{x}+1}", set()),
    ],
)
def test_the_same_zeros(one: str, other: str, denominators: set[str]) -> None:
    for found in (compared(one, other), compared(other, one)):
        assert found is not None
        assert found.proportional
        assert found.denominators == frozenset(denominators)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("xy", "y"),
        ("x^2-1", r"\frac{x^2-1}{x-1}"),
        (r"\sqrt{3}x-y", r"\sqrt{2}x-y"),
        ("(x-y)^2", "x-y"),
        (r"\sqrt{x}-1", "x-1"),
        ("x+i", "x-i"),
    ],
)
def test_other_zeros(one: str, other: str) -> None:
    found = compared(one, other)
    assert found is not None
    assert not found.proportional


@pytest.mark.parametrize("one", ["5", r"\sqrt[3]{2}x-y", "x-x", r"\frac{1}{x}", "x^{41}-y", r"\frac{x}{0}"])
def test_what_cannot_be_told(one: str) -> None:
    assert compared(one, one) is None


SMALL = st.integers(-9, 9).filter(bool)


@given(SMALL, SMALL, SMALL, SMALL)
def test_a_factor_of_both_parts_says_nothing(a: int, b: int, c: int, d: int) -> None:
    one, factor = f"({a}x+{b}y+{c})", f"(x^2+{d}y)"
    found = compared(f"x{one}", rf"\frac{{x{one}{factor}}}{{{factor}}}")
    assert found is not None
    assert (found.proportional, found.denominators) == (True, frozenset())
    found = compared(f"x{one}", f"x{one}{factor}")
    assert found is not None
    assert not found.proportional
