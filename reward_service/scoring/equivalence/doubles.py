"""Real values in doubles: cheap enough for hundreds of points. They prove nothing, they say where it is worth to look closely."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable

NOTHING = math.nan  # where there is no real value
_NEARLY = 1e-9  # a value this near to a whole number is that number
_MAX_GAMMA = 170
_CONSTANTS = {"pi": math.pi, "e": math.e, "deg": math.pi / 180}
Point = Mapping[str, float]


def real_double(expression: Expression, point: Point) -> float:
    """The value at a point, or `NOTHING`."""
    try:
        value = _VALUES[type(expression)](expression, point)
    except (ArithmeticError, KeyError, ValueError):
        return NOTHING
    return value if math.isfinite(value) else NOTHING


def _value(expression: Expression, point: Point) -> float:
    return _VALUES[type(expression)](expression, point)


def _sum(expression: Sum, point: Point) -> float:
    return sum([_VALUES[type(term)](term, point) for term in expression.terms])


def _product(expression: Product, point: Point) -> float:
    result = 1.0
    for factor in expression.factors:
        result *= _VALUES[type(factor)](factor, point)
    return result


def _power(expression: Power, point: Point) -> float:
    base, exponent = _value(expression.base, point), _value(expression.exponent, point)
    if base > 0:
        return float(base**exponent)
    if base == 0:
        return 0.0 if exponent > 0 else NOTHING
    whole = round(exponent)
    if abs(exponent - whole) < _NEARLY:
        return float(base**whole)
    written = expression.exponent
    if isinstance(written, Number) and written.value.denominator % 2:
        return float((-1.0 if written.value.numerator % 2 else 1.0) * (-base) ** exponent)
    return NOTHING


def _applied(expression: Apply, point: Point) -> float:
    arguments = [_value(argument, point) for argument in expression.arguments]
    if any(map(math.isnan, arguments)):
        return NOTHING
    function = _FUNCTIONS.get(expression.name)
    return NOTHING if function is None else function(*arguments)


def _snapped(value: float) -> float:
    whole = round(value)
    return float(whole) if abs(value - whole) < _NEARLY * max(1.0, abs(value)) else value


def _factorial(value: float) -> float:
    return math.gamma(value + 1) if -1 < value < _MAX_GAMMA else NOTHING


_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "cot": lambda x: 1 / math.tan(x), "sec": lambda x: 1 / math.cos(x), "csc": lambda x: 1 / math.sin(x),
    "coth": lambda x: 1 / math.tanh(x),
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "arccot": lambda x: math.atan(1 / x),
    "arcsec": lambda x: math.acos(1 / x), "arccsc": lambda x: math.asin(1 / x),
    "log": lambda x, base: math.log(x) / math.log(base),
    "abs": abs, "floor": lambda x: float(math.floor(_snapped(x))), "ceiling": lambda x: float(math.ceil(_snapped(x))),
    "sgn": lambda x: float((x > 0) - (x < 0)), "max": lambda *xs: max(xs), "min": lambda *xs: min(xs),
    "factorial": _factorial,
    "binomial": lambda n, k: _factorial(n) / _factorial(k) / _factorial(n - k),
}  # fmt: skip

_VALUES: Mapping[type, Callable[[Any, Point], float]] = {
    Number: lambda expression, _: expression.value.numerator / expression.value.denominator,
    Variable: lambda expression, point: point[expression.name],
    Constant: lambda expression, _: _CONSTANTS[expression.name],
    Sum: _sum,
    Product: _product,
    Power: _power,
    Apply: _applied,
}
