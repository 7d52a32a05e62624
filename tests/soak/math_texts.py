"""Random LaTeX for the fuzzer: sentences of a small grammar of answers, mutated; and fragments repeated, which is what bombs are."""

from __future__ import annotations

import random
from collections.abc import Callable

_LINES = r"""
\text{ \text{a \text{a} \frac{ \frac{1} \frac1 \frac{\text{ { } {} ( ) () [ ] (mod \pmod{ 1, 1{,} 1\, 1. .1 . .. ... \\ \ \! $ ^ ^{ ^{o _
_{ 1_ C_ C( C(1, 5C {}_ \left \right \left( \left. \boxed{ \fbox{ \color{ {\rm \mathbf{R \mathbb{R} \operatorname{ \angle
\begin{pmatrix} \begin \end{pmatrix} & \cr \choose {1\choose \over \{x| \{ x< x= = < > \le 1<x< \text{or} \cup \setminus \pm + - +- --
* ** / 1/ % ! a! ' 1' \sqrt \sqrt{ \sqrt[ \sqrt2 \sin \log_ \log_2 | |x |x| sq. U ab abc abcd x+ x^2+ (x+1) x^2^ 2^2 9 1e9 1: 1:2 e i e^
i^ \pi \infty oo ^\circ \degree US$ sqrt cbrt( mod \bmod \mapsto \langle \overline{ 0.( \in \approx \lfloor \max( \gcd(1, \binom{ \hat{
\vec{i} \int \sum_{k=1} \lim \det or and answer
"""
FRAGMENTS = (
    *_LINES.split(),
    *(" ", "\t", "\n", "\u2212", "\u00b2", "\u0663", "\uff11", "\ud800", "\u200b", "\U0001d7d8", "\u221a", "\u2264", "1 million ", "the "),
)
_ORDERS = ("<", r"\le", ">", r"\neq")
Draw = random.Random


def text(draw: Draw) -> str:
    """One answer: honest, broken, or a bomb."""
    kind = draw.random()
    if kind < 0.5:
        return answer(draw)
    if kind < 0.75:
        return mutated(draw, answer(draw))
    unit = "".join(draw.choices(FRAGMENTS, k=draw.choice((1, 2, 2, 3, 4))))
    times = draw.choice((2, 9, 40, 150, max(1, 3_990 // len(unit)), max(1, 100_000 // len(unit))))
    return draw.choice(("", "1", draw.choice(FRAGMENTS))) + unit * times + draw.choice(("", "1", draw.choice(FRAGMENTS)))


def mutated(draw: Draw, written: str) -> str:
    """The text with fragments put in, taken out, or doubled."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(written))
        end = min(len(written), at + draw.randint(0, 6))
        written = draw.choice(
            (written[:at] + draw.choice(FRAGMENTS) + written[at:], written[:at] + written[end:], written[:end] + written[at:])
        )
    return written


def answer(draw: Draw) -> str:
    """A sentence of the grammar."""
    return draw.choice(_ANSWERS)(draw)


def expression(draw: Draw, depth: int = 3) -> str:
    """A term, as models write them."""
    if depth == 0 or draw.random() < 0.25:
        return draw.choice(
            (str(draw.randint(-20, 200)), f"{draw.randint(0, 99)}.{draw.randint(0, 99)}", *"xyznabek", r"\pi", r"\theta", "i")
        )
    one, other = expression(draw, depth - 1), expression(draw, depth - 1)
    shape = draw.choice(_SHAPES)
    return shape.replace("A", one).replace("B", other)


_SHAPES = (
    "A+B", "A-B", r"A\cdot B", "A B", "(A)(B)", r"\frac{A}{B}", r"\dfrac{A}{B}", "A/B", "{A}^{B}", "(A)^2", r"\sqrt{A}", r"\sqrt[3]{A}",
    r"\sin(A)", r"\cos^2 A", r"\ln(A)", r"\log_{B}(A)", r"\left(A\right)", "|A|", r"e^{A}", r"A\%", r"A^\circ", "A!", r"\binom{A}{B}",
    r"\lfloor A\rfloor", r"\max(A, B)", r"A\pm B", r"-A", r"\frac12 A", "x_{1}A", r"\tan^{-1}(A)",
)  # fmt: skip


def _many(draw: Draw, separator: str) -> str:
    return separator.join(expression(draw, 2) for _ in range(draw.randint(2, 5)))


_ANSWERS: tuple[Callable[[Draw], str], ...] = (
    expression,
    lambda draw: f"x = {expression(draw)}",
    lambda draw: f"{expression(draw)} = {expression(draw)}",
    lambda draw: f"({_many(draw, ', ')})",
    lambda draw: rf"\{{{_many(draw, ', ')}\}}",
    lambda draw: _many(draw, draw.choice((", ", r" \text{ or } ", " and ", "; "))),
    lambda draw: f"{draw.choice('([')}{expression(draw, 1)}, {expression(draw, 1)}{draw.choice(')]')}",
    lambda draw: rf"({expression(draw, 1)}, {expression(draw, 1)}) \cup [{expression(draw, 1)}, \infty)",
    lambda draw: rf"{expression(draw, 1)} {draw.choice(_ORDERS)} {expression(draw, 2)}",
    lambda draw: rf"|{expression(draw, 1)}| < {expression(draw, 1)}",
    lambda draw: rf"\begin{{pmatrix}} {_many(draw, ' & ')} \\ {_many(draw, ' & ')} \end{{pmatrix}}",
    lambda draw: rf"{expression(draw, 1)} \pmod{{{draw.randint(0, 20)}}}",
    lambda draw: rf"{expression(draw, 1)}\text{{ {draw.choice(('cm', 'units', 'miles per hour', 'or', 'm'))}}}",
    lambda draw: f"{draw.randint(0, 99)}:{draw.randint(0, 99)}",
    lambda draw: f"{draw.randint(0, 999)}_{draw.randint(2, 12)}",
)
