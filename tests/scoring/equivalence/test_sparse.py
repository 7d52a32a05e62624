"""The short cut for sums of monomials and lists of numbers reads what the grammar reads, and proves what the algebra proves."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reward_service.scoring.equivalence.compare import compare_answers
from reward_service.scoring.equivalence.forms import Sum, Value
from reward_service.scoring.equivalence.parse import read_answer, read_fully
from reward_service.scoring.equivalence.polynomials import same_polynomials
from reward_service.scoring.equivalence.sparse import read_plainly, same_sums

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
FACTORS = st.one_of(st.sampled_from("abknxtyz"), st.builds("{}^{}".format, st.sampled_from("abxyz"), st.integers(0, 9)))
POWERS = st.one_of(FACTORS, st.builds("{}^{{{}}}".format, st.sampled_from("abxyz"), st.integers(0, 120)))
TERMS = st.one_of(
    st.integers(0, 999).map(str),
    POWERS,
    st.builds("{}{}".format, st.integers(0, 99), POWERS),
    st.builds("{}{}{}".format, st.integers(1, 99), POWERS, POWERS),
    st.builds("{}.5{}".format, st.integers(0, 99), POWERS),
)
SUMS = st.builds(
    lambda minus, terms, signs: minus + "".join(term + sign for term, sign in zip(terms, [*signs, ""], strict=False)),
    st.sampled_from(("", "-")),
    st.lists(TERMS, min_size=2, max_size=6),
    st.lists(st.sampled_from((" + ", " - ", "+", "-")), min_size=6, max_size=6),
)
LISTS = st.lists(st.integers(-9999, 9999), min_size=2, max_size=9).map(lambda numbers: ", ".join(map(str, numbers)))


@EXAMPLES
@example("2x^2-5x-3 + ")
@example("x^2 2x")
@example("+x^2+1")
@example("x^2+-1")
@example("x^2 +  1")
@example("x^12+1")
@example("2xyz^2+1")
@example("1, 234")
@example("(1, 234)")
@example("(1, -2, 3)")
@example("1, 2)")
@example(r"5\sqrt{3}")
@example(r"\sqrt{12}")
@example(r"12\pi")
@example(r"\pi")
@given(st.one_of(SUMS, LISTS, st.text("0123456789xy^+-, {}.", max_size=12)))
def test_it_reads_what_the_grammar_reads(text: str) -> None:
    form = read_plainly(text)
    if form is not None:
        assert read_answer(text).forms == (form,)
        full = read_fully(text)
        assert full.forms == (form,)
        assert (full.latex, full.words) == (read_answer(text).latex, read_answer(text).words)


@pytest.mark.parametrize("text", ["3x^2 - 5x + 7", "-x^{12}+y", "1, -2, 30", "(3, 4)", r"5\sqrt{3}", r"\pi"])
def test_it_reads_the_commonest(text: str) -> None:
    assert read_plainly(text) is not None


@EXAMPLES
@given(SUMS, SUMS)
def test_it_proves_what_the_algebra_proves(one: str, other: str) -> None:
    for left, right in ((one, other), (one, one)):
        trees = [form.expression for text in (left, right) for form in read_fully(text).forms if isinstance(form, Value)]
        if len(trees) == 2 and isinstance(trees[0], Sum) and isinstance(trees[1], Sum):
            found, proved = same_sums(trees[0], trees[1]), same_polynomials(trees[0], trees[1])
            assert found is None or proved is None or found == proved


def test_a_changed_coefficient_is_seen_and_shown() -> None:
    found = compare_answers(["x^2 + 3x + 1"], "x^2 + 4x + 1")
    assert (found.equal, found.rule) == (False, "exact")
    assert "against" in found.witness
