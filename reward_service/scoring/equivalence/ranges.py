"""Inequalities as intervals: `1 < x \\le 3`, `x > 2`."""

from __future__ import annotations

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Constant, Form, Interval, Product, Relation, Value, Variable

_FLIPPED = {">": "<", ">=": "<="}
INFINITY = Constant("oo")
MINUS_INFINITY = Product((MINUS_ONE, INFINITY))


def range_of(form: Form) -> tuple[str, Interval] | None:
    """The variable and the interval of an inequality like `1 < x \\le 3` or `x > 2`, if it is one."""
    if not isinstance(form, Relation):
        return None
    sides, operators = list(form.sides), list(form.operators)
    if all(operator in _FLIPPED for operator in operators):
        sides, operators = sides[::-1], [_FLIPPED[operator] for operator in operators[::-1]]
    if not all(operator in ("<", "<=") for operator in operators) or not all(isinstance(side, Value) and not side.unit for side in sides):
        return None
    values = [side.expression for side in sides if isinstance(side, Value)]
    match values, [operator == "<=" for operator in operators]:
        case [low, Variable(name), high], [low_closed, high_closed]:
            return name, Interval(low, high, (low_closed, high_closed))
        case [Variable(name), high], [closed] if not isinstance(high, Variable):
            return name, Interval(MINUS_INFINITY, high, (False, closed))
        case [low, Variable(name)], [closed]:
            return name, Interval(low, INFINITY, (closed, False))
    return None


def has_constant_ends(form: Form) -> bool:
    """Whether it is no interval that has a variable in an end."""
    return not isinstance(form, Interval) or (numeric.is_constant(form.low) and numeric.is_constant(form.high))
