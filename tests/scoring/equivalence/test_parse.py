"""How answers are read."""

from __future__ import annotations

import pytest

from reward_service.scoring.equivalence.forms import render
from reward_service.scoring.equivalence.limits import LimitExceeded, check_text
from reward_service.scoring.equivalence.normalize import normalize, plain_words
from reward_service.scoring.equivalence.parse import read_answer
from reward_service.scoring.equivalence.units import unit_name


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("1,234", ["1234", "1, 234"]),
        ("(1,234)", ["(1, 234)"]),
        (r"5\text{ cm}", ["5 cm"]),
        (r"2\frac{1}{2}", ["5/2"]),
        (r"\frac12", ["1*(2)^(-1)"]),
        ("x^10", ["(x)^(10)"]),
        ("2^{-1/2}", ["(2)^(-1*1*(2)^(-1))"]),
        (r"\sin 2x \cos x", ["sin(2*x)*cos(x)"]),
        (r"\sin^2 x", ["(sin(x))^(2)"]),
        (r"\log_2 8", ["log(8, 2)"]),
        ("1 < x \\le 3", ["1 < x <= 3"]),
        (r"\{1, 2\}", ["{1, 2}"]),
        ("[1, 2)", ["[1, 2)"]),
        (r"\pm 5", ["5, -5"]),
        ("25_6", ["25_6"]),
        ("x_{12}'", ["x_12'"]),
        (r"\text{not even}", ['"not even"']),
        ("the word and more", ['"word, more"']),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", ["[1, 2; 3, 4]"]),
        (r"A \cup B", [r"A \cup B"]),
        ("1:2", ["1:2"]),
        ("3(4)", ["3*4"]),
        ("3 4", ['"3 4"']),
    ],
)
def test_readings(text: str, forms: list[str]) -> None:
    assert [render(form) for form in read_answer(text).forms] == forms


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (r"\left(\dfrac{1}{2}\right)", r"(\frac{1}{2})"),
        ("x\u00b2", "x^{2}"),
        ("\uff13\uff14", "34"),
        (r"4{,}830", "4830"),
        (r"\mathbf{516}", "516"),
        (r"$5$.", "5"),
        (r"\text{C}", "C"),
        (r"62^{\circ}", r"62^\circ"),
        (r"\$9", r"\dollar 9"),
        ("1 \u2264 2", r"1 \le 2"),
    ],
)
def test_normal_notation(text: str, normal: str) -> None:
    assert normalize(text) == normal
    assert normalize(normal) == normal


def test_words_lose_case_punctuation_and_commands() -> None:
    assert plain_words(normalize(r"\text{Not  Even.}")) == "not even"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Centimeters", "cm"),
        ("square centimeters", "cm^2"),
        ("sq. cm", "cm^2"),
        ("degrees", "degree"),
        ("Hours", "hour"),
        ("square units", "unit"),
    ],
)
def test_units_have_one_name(written: str, name: str) -> None:
    assert unit_name(written) == name


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("x" * 4001, "max_chars"),
        ("1" * 301, "max_digits"),
        ("(" * 41, "max_nesting"),
        ("^" * 81, "max_power_signs"),
        ("3! ! ! !", "max_postfix_run"),
    ],
)
def test_limits_are_met_one_above_them(text: str, limit: str) -> None:
    check_text(text[:-1])
    with pytest.raises(LimitExceeded) as caught:
        check_text(text)
    assert caught.value.limit == limit
    assert read_answer(text).limit == limit
