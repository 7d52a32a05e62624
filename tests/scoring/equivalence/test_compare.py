"""Equality of answers: every wrong verdict ever found is a row of the table first."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reward_service.scoring.equivalence.compare import compare_answers, prepare_gold
from reward_service.scoring.equivalence.references import unboxed
from reward_service.scoring.equivalence.tokens import KNOWN_WORDS

CASES = Path(__file__).parents[2] / "cases"


def rows(name: str) -> list[dict[str, Any]]:
    with open(CASES / name, encoding="utf-8") as table:
        return [json.loads(line) for line in table]


PAIRS = [row for name in ("", "_notations", "_adversarial", "_reviewed", "_styles") for row in rows(f"math{name}.jsonl")]
REFERENCES = rows("math_references.jsonl")
BOMBS = rows("math_bombs.jsonl")


def equal(gold: str, answer: str) -> bool:
    return compare_answers([gold], answer).equal


@pytest.mark.parametrize("row", PAIRS, ids=[row["id"] for row in PAIRS])
def test_pairs(row: dict[str, Any]) -> None:
    found = compare_answers([row["gold"]], row["answer"])
    assert found.equal == row["equal"], (row["why"], found)


def test_every_reference_of_the_table_can_be_used() -> None:
    """One test for all of them: as many as there are rows take a minute to set up."""
    golds = {row["gold"]: row["id"] for row in PAIRS}
    assert [row for gold, row in golds.items() if prepare_gold(gold).cause is not None] == []
    assert [row for gold, row in golds.items() if not equal(gold, unboxed(gold))] == []


@pytest.mark.parametrize("row", REFERENCES, ids=[row["id"] for row in REFERENCES])
def test_references(row: dict[str, Any]) -> None:
    assert prepare_gold(row["gold"]).cause == row["cause"], row["why"]


@pytest.mark.parametrize("row", BOMBS, ids=[row["id"] for row in BOMBS])
def test_bombs_end_in_milliseconds_on_both_sides(row: dict[str, Any]) -> None:
    text = row["head"] * row["times"] + row["tail"]
    equal(r"\int_0^1 x dx", r"\sqrt{2}")  # loads SymPy and math-verify once
    start_s = time.process_time()
    assert not equal("5", text)
    assert not equal(r"x + \sqrt{2}", text)
    prepare_gold(text)
    assert time.process_time() - start_s < 2.5  # a bomb would take minutes


def test_any_of_several_references_is_enough() -> None:
    found = compare_answers(["3", r"\frac{1}{2}"], "0.5")
    assert (found.equal, found.gold_form, found.answer_form) == (True, "1/2", "1/2")
    assert not compare_answers(["3", "4"], "5").equal


def test_a_finding_says_where_values_differ() -> None:
    found = compare_answers([r"\sqrt{2}"], "1.414")
    assert found.rule == "numeric"
    assert found.witness == "1.4142136 against 1.414"


def test_forms_are_bounded() -> None:
    found = compare_answers(["+".join("x" * 500)], "+".join("y" * 500))
    assert len(found.gold_form) == len(found.answer_form) == 500


NUMBERS = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000)
INTEGERS = st.integers(-(10**9), 10**9)


def latex(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


WRITTEN = (
    lambda value: latex(value),
    lambda value: f"{value.numerator}/{value.denominator}",
    lambda value: rf"\left( {latex(value)} \right)",
    lambda value: rf"x = {latex(value)}",
    lambda value: rf"$ {latex(value)} $.",
    lambda value: rf"{latex(value)} \cdot 1",
    lambda value: rf"{latex(value + 1)} - 1",
    lambda value: rf"\dfrac{{{2 * value.numerator}}}{{{2 * value.denominator}}}",
)


@given(NUMBERS, st.sampled_from(WRITTEN), st.sampled_from(WRITTEN[:3]))
def test_a_number_equals_itself_however_it_is_written(value: Fraction, answer: Any, gold: Any) -> None:
    assert equal(gold(value), answer(value))


@given(NUMBERS, NUMBERS, st.sampled_from(WRITTEN))
def test_different_numbers_are_never_equal(value: Fraction, other: Fraction, written: Any) -> None:
    assert equal(latex(value), written(other)) == (value == other)


@given(st.lists(INTEGERS, min_size=2, max_size=6, unique=True))
def test_a_list_is_equal_to_none_of_its_elements(values: list[int]) -> None:
    texts = [str(value) for value in values]
    for spray in (
        ", ".join(texts),
        r" \text{ or } ".join(texts),
        rf"\{{{', '.join(texts)}\}}",
        f"({', '.join(texts)})",
        f"[{'; '.join(texts)}]",
    ):
        assert not any(equal(text, spray) for text in texts)


@given(st.lists(INTEGERS, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_sets_have_no_order_and_tuples_have(values: list[int], dice: Any) -> None:
    other = list(values)
    dice.shuffle(other)
    one_text, other_text = (", ".join(map(str, items)) for items in (values, other))
    assert equal(rf"\{{{one_text}\}}", rf"\{{{other_text}\}}")
    assert equal(f"({one_text})", f"({other_text})") == (values == other)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=5), st.lists(st.integers(-9, 9), min_size=1, max_size=5), st.integers(-3, 3))
def test_products_of_polynomials_equal_their_expansion_and_nothing_near_it(one: list[int], other: list[int], off: int) -> None:
    def text(coefficients: list[int]) -> str:
        return " + ".join(f"({value})x^{{{power}}}" for power, value in enumerate(coefficients))

    product = [0] * (len(one) + len(other) - 1)
    for power, value in enumerate(one):
        for other_power, other_value in enumerate(other):
            product[power + other_power] += value * other_value
    product[0] += off
    assert equal(f"({text(one)})({text(other)})", text(product)) == (off == 0)


@given(
    st.text("abcdeinorstxyABNO", min_size=2, max_size=3),
    st.randoms(use_true_random=False),
    st.sampled_from(["{}", "x = {}", r"{} \cdot 1", "({})"]),
)
def test_no_anagram_of_a_word_is_accepted(word: str, dice: Any, frame: str) -> None:
    assume(len(set(word)) > 1 and word not in KNOWN_WORDS | {"or", "and", "in"})
    assume(not any(set(word) <= set(group) for group in ("abc", "xyz", "rst")))
    letters = list(word)
    dice.shuffle(letters)
    other = "".join(letters)
    assert equal(word, word)
    if other.casefold() != word.casefold():
        assert not equal(word, frame.format(other))
        assert not equal(word, frame.format("*".join(letters)))


MATH_TEXT = st.lists(
    st.sampled_from(
        [
            *"0123456789xyzeiA+-*/^_()[]{}|!,;:=<>.%' ",
            r"\frac",
            r"\sqrt",
            r"\pi",
            r"\infty",
            r"\pm",
            r"\cup",
            r"\in",
            r"\text{or}",
            r"\{",
            r"\}",
            r"\begin{pmatrix}",
            r"\end{pmatrix}",
            r"\\",
            "&",
            r"\sin",
            r"\log",
            r"\circ",
            r"\int",
            r"\left",
            r"\right",
            r"\le",
            "\u221a",
            "\ud800",
            r"\binom",
        ]
    ),
    max_size=25,
).map("".join)


@settings(max_examples=300)
@given(MATH_TEXT, MATH_TEXT)
def test_no_text_raises_and_equality_is_symmetric_on_values(one: str, other: str) -> None:
    prepare_gold(one)
    assert isinstance(equal(one, other), bool)
    if prepare_gold(one).cause is None:
        assert equal(one, one)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_text_of_any_kind_is_no_error(text: str) -> None:
    prepare_gold(text)
    assert not equal("5", text) or "5" in text or "five" in text.casefold() or not text.isascii()
