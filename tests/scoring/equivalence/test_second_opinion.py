"""SymPy and math-verify as a last resort: no text is evaluated, and their traps do not reach a verdict."""

from __future__ import annotations

import pytest
import sympy

from reward_service.scoring.equivalence import second_opinion


def test_sympy_reads_no_text_while_a_stage_runs() -> None:
    with second_opinion.no_text_evaluation():
        for read in (sympy.sympify, sympy.parse_expr, sympy.S, sympy.Number):
            with pytest.raises((ValueError, sympy.SympifyError)):
                read("1+1")
    assert sympy.sympify("1+1") == 2


def test_numbers_are_exact_and_read_without_evaluation() -> None:
    with second_opinion.no_text_evaluation():
        assert second_opinion._reader().parse("0.1") == sympy.Rational(1, 10)


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        (r"\int_0^1 x dx", r"\frac{1}{2}", True),
        (r"\int_0^1 x dx", r"\frac{1}{3}", False),
        (r"\sum_{k=1}^{4} k", "10", True),
        (r"\lim_{x \to 0} \frac{\sin x}{x}", "1", True),
        (r"\prod_{k=1}^{4} k", "24", True),
        ("7", "3(4)", False),
        ("25", "25_6", False),
        ("x", "X", False),
        ("1,2", "2,1", False),
        (r"\operatorname{zeros}(1000000000)", "0", False),
        (r"\operatorname{eye}(3)", r"\operatorname{eye}(3)", False),
        ("x=5", "5", False),
        ("0.3333333", "1/3", False),
        (r"9\int_0^1 x !x", "1", False),
        ("__import__('os')", "__import__('os')", False),
    ],
)
def test_math_verify_is_heard_within_bounds(gold: str, answer: str, equal: bool) -> None:
    assert second_opinion.math_verify_agrees(gold, answer) is equal
