r"""Answers with a parameter that runs through all integers: `k\pi + \frac{\pi}{2}` and `k\pi - \frac{\pi}{2}` are the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import (
    Collection,
    Expression,
    Form,
    Interval,
    Number,
    Product,
    Relation,
    SetOperation,
    Sum,
    Value,
    Variable,
)
from reward_service.scoring.equivalence.renaming import PARAMETER, replaced

_MAX_SHIFT = 1_000
_ZERO, _ONE = Number(Fraction(0)), Number(Fraction(1))


def shifted(gold: Form, answer: Form) -> Iterator[Form]:
    """The reference with `k + s` and with `s - k` for its parameter, by the whole number s that brings it nearest to the answer."""
    one, other = _first(gold), _first(answer)
    if one is None or other is None:
        return
    at_zero, at_one, theirs = (
        numeric.real_value(expression)
        for expression in (_with(one, _ZERO), _with(one, _ONE), _with(other, _ZERO))
    )  # fmt: skip
    if at_zero is None or at_one is None or theirs is None or at_zero == at_one or numeric.INFINITE in (abs(at_zero), abs(theirs)):
        return
    steps = (theirs - at_zero) / (at_one - at_zero)
    if not abs(steps) <= _MAX_SHIFT:
        return
    shift = round(float(steps))
    for parameter in (Variable(PARAMETER), Product((MINUS_ONE, Variable(PARAMETER)))):
        yield _mapped(gold, Sum((parameter, Number(Fraction(shift)))))


def _first(form: Form) -> Expression | None:
    """The first expression with the parameter in it."""
    return next((each for each in _expressions(form) if PARAMETER in set(numeric.variables(each))), None)


def _expressions(form: Form) -> Iterator[Expression]:
    match form:
        case Value(expression):
            yield expression
        case Interval(low, high):
            yield from (low, high)
        case Collection(_, parts) | Relation(parts) | SetOperation(_, parts):
            for part in parts:
                yield from _expressions(part)


def _mapped(form: Form, parameter: Expression) -> Form:
    match form:
        case Value(expression, unit, word):
            return Value(_with(expression, parameter), unit, word)
        case Interval(low, high, closed):
            return Interval(_with(low, parameter), _with(high, parameter), closed)
        case Collection(kind, items):
            return Collection(kind, tuple(_mapped(item, parameter) for item in items))
        case Relation(sides, operators):
            return Relation(tuple(_mapped(side, parameter) for side in sides), operators)
        case SetOperation(operator, parts):
            return SetOperation(operator, tuple(_mapped(part, parameter) for part in parts))
    return form


def _with(expression: Expression, parameter: Expression) -> Expression:
    return replaced(expression, {PARAMETER: parameter})
