"""What holds of every answer: reflexive, symmetric, blind to spacing and to LaTeX's ways of writing one thing, not to a changed value."""

from __future__ import annotations

import random
import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reward_service.scoring.equivalence.compare import compare_answers, prepare_gold
from reward_service.scoring.equivalence.forms import Value, Words
from reward_service.scoring.equivalence.parse import read_answer
from tests.soak.math_texts import answer, expression

SEEDS = st.integers(0, 2**32)
ANSWERS = SEEDS.map(lambda seed: answer(random.Random(seed)))
EXPRESSIONS = SEEDS.map(lambda seed: expression(random.Random(seed), 2))
EXAMPLES = settings(max_examples=250)


def equal(gold: str, other: str) -> bool:
    return compare_answers([gold], other).equal


def usable(text: str) -> bool:
    return prepare_gold(text).cause is None


def in_grammar(text: str) -> bool:
    return usable(text) and not any(isinstance(form, Words) for form in read_answer(text).forms)


def is_value(text: str) -> bool:
    return all(isinstance(form, Value) and not form.unit and not form.word for form in read_answer(text).forms) and bool(
        read_answer(text).forms
    )


@EXAMPLES
@given(ANSWERS)
def test_whatever_can_be_a_reference_equals_itself(text: str) -> None:
    assume(usable(text))
    assert equal(text, text)


SPACED = (
    lambda text: re.sub(r"([+=<>])", r" \1 ", text),
    lambda text: text.replace(", ", r",\, "),
    lambda text: text.replace(", ", ",").replace(" + ", "+"),
    lambda text: f" {text} ",
    lambda text: rf"\displaystyle {text}",
    lambda text: rf"{text}\,",
)
REWRITTEN = (
    lambda text: text.replace(r"\frac{", r"\dfrac{"),
    lambda text: text.replace(r"\frac{", r"\tfrac{"),
    lambda text: text if r"\left" in text else text.replace("(", r"\left(").replace(")", r"\right)") if "[" not in text else text,
    lambda text: text.replace(r"\cdot", r"\times"),
    lambda text: f"${text}$",
    lambda text: rf"\({text}\)",
    lambda text: f"{text}.",
    lambda text: text.replace(r"\le ", r"\leq "),
    lambda text: text.replace("pmatrix", "bmatrix"),
    lambda text: text.replace("-", "\u2212"),
    lambda text: f"**{text}**" if "*" not in text else text,
)


@EXAMPLES
@given(ANSWERS, st.sampled_from(SPACED))
def test_spacing_says_nothing(text: str, spaced: object) -> None:
    assume(in_grammar(text))
    assert callable(spaced)
    assert equal(text, spaced(text))
    assert equal(spaced(text), text)


@EXAMPLES
@given(ANSWERS, st.sampled_from(REWRITTEN))
def test_the_way_of_writing_says_nothing(text: str, rewritten: object) -> None:
    assume(in_grammar(text))
    assert callable(rewritten)
    assert equal(text, rewritten(text))
    assert equal(rewritten(text), text)


@EXAMPLES
@given(EXPRESSIONS, st.sampled_from((r"({}) + 1", r"({}) - \frac{{1}}{{1000}}", r"({}) + \sqrt{{2}}", r"({}) + 10^{{-9}}")))
def test_another_value_is_another_answer(text: str, changed: str) -> None:
    assume(usable(text) and is_value(text))
    assert not equal(text, changed.format(text))
    assert not equal(changed.format(text), text)


@EXAMPLES
@given(EXPRESSIONS, EXPRESSIONS)
def test_values_are_compared_alike_from_both_sides(one: str, other: str) -> None:
    assume(is_value(one) and is_value(other))
    assert equal(one, other) == equal(other, one)


@EXAMPLES
@given(ANSWERS, st.sampled_from(("{}, 7919", r"{} \text{{ or }} 7919", "7919, {}", r"\{{{}, 7919\}}", r"{} \text{{ and }} 7919")))
def test_nothing_may_be_added_to_an_answer(text: str, sprayed: str) -> None:
    assume(usable(text) and "7919" not in text)
    assert not equal(text, sprayed.format(text))


@EXAMPLES
@given(SEEDS, st.booleans())
def test_intervals_differ_by_each_of_their_ends(seed: int, closed: bool) -> None:
    draw = random.Random(seed)
    low, width = draw.randint(-50, 50), draw.randint(1, 50)
    left, right = "[" if closed else "(", ")" if draw.random() < 0.5 else "]"
    text = f"{left}{low}, {low + width}{right}"
    signs = (r"\le" if closed else "<", r"\le" if right == "]" else "<")
    assert equal(text, f"{low} {signs[0]} x {signs[1]} {low + width}")
    for other in (
        f"{left}{low}, {low + width + 1}{right}",
        f"{left}{low - 1}, {low + width}{right}",
        f"{'(' if closed else '['}{low}, {low + width}{right}",
        f"{left}{low}, {low + width}{')' if right == ']' else ']'}",
        rf"{text} \cup \{{{low + width + 1}\}}",
    ):
        assert not equal(text, other)
        assert not equal(other, text)
