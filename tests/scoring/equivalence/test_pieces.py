"""Where numbers deceive: what agrees at a few points, or to a few hundred places, and differs elsewhere."""

from __future__ import annotations

import time

import pytest

from reward_service.scoring.equivalence import second_opinion
from reward_service.scoring.equivalence.compare import compare_answers
from reward_service.scoring.equivalence.forms import Expression, Value
from reward_service.scoring.equivalence.hidden import places_to_compare
from reward_service.scoring.equivalence.parse import read_fully
from reward_service.scoring.equivalence.sampling import whole_names


def tree(latex: str) -> Expression:
    form = read_fully(latex).forms[0]
    assert isinstance(form, Value)
    return form.expression


@pytest.mark.parametrize(
    ("latex", "names"),
    [
        ("(-1)^n", {"n"}),
        ("(-2)^{n-k}x^m", {"n", "k", "m"}),
        (r"\lfloor n/2\rfloor", {"n"}),
        (r"\lfloor x/2\rfloor", set()),
        ("2^n", set()),
        ("x^n", {"n"}),
        ("a^{m/n}", set()),
        ("n^x", set()),
    ],
)
def test_letters_for_whole_numbers(latex: str, names: set[str]) -> None:
    assert whole_names(tree(latex)) == names


def test_places_grow_with_the_written_numbers() -> None:
    one, small, tiny = tree(r"\sin 1"), tree(r"\sin 1+10^{-600}"), tree(r"\sin 1+10^{-60000}")
    assert places_to_compare(one, one, {}, 500) == 500
    assert (places_to_compare(one, small, {}, 500) or 0) > 600
    assert places_to_compare(one, tiny, {}, 500) is None


LONG = {
    "floors": [r"\lfloor \frac{x}{%d}\rfloor", r"\lceil \frac{x+1}{%d}\rceil-1"],
    "whole numbers": [r"\lfloor \frac{n}{%d}\rfloor", r"\lceil \frac{n+1}{%d}\rceil-1"],
    "absolute values": ["|x-%d|", r"\sqrt{(x-%d)^2}"],
    "sines": [r"\sin(%dx)", r"\sin(%dx)+10^{-900}"],
    "functions of small numbers": [r"\sin(%dx+10^{-300})", r"\sin(%dx-10^{-300})"],
    "signs": ["(-%d)^n", "(-1)^n%d^n"],
}


@pytest.mark.parametrize("name", LONG)
def test_long_pairs_end_in_milliseconds(name: str) -> None:
    gold, answer = ("+".join(term % number for number in range(2, 60)) for term in LONG[name])
    compare_answers([r"|x|"], r"\sin x")
    start_s = time.process_time()
    with second_opinion.deferred():
        compare_answers([gold], answer)
    assert time.process_time() - start_s < 0.5  # tens of milliseconds where nobody else works
