"""Fast refutations: most wrong answers differ from the reference in the first digits, and are not worth sixty of them.

They are certain: doubles are believed only where nothing cancels and the values differ in the first six digits.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable

_CANCELLED = 1e-3  # of the greatest term: a sum that is smaller has lost digits
_DIFFERENT = 1e-6
_HUGE = 1e150
_CONSTANTS = {"pi": math.pi, "e": math.e, "deg": math.pi / 180}
_FUNCTIONS: dict[str, Callable[[float], float]] = {"sin": math.sin, "cos": math.cos, "arctan": math.atan, "abs": abs}
_MAX_ARGUMENT = 1_000.0  # of a sine: beyond, its digits are those of the argument's error


class _Unsure(Exception):
    """Nothing certain can be said."""


def certainly_different(one: Expression, other: Expression) -> tuple[bool | None, str]:
    """True where two expressions certainly have different values, and the values for people; False where they are near; None: unknown."""
    point: dict[str, float] = {}
    try:
        left, right = _double(one, point), _double(other, point)
    except (_Unsure, ArithmeticError, ValueError):
        return None, ""
    if abs(left - right) <= _DIFFERENT * max(abs(left), abs(right)):
        return False, ""
    at = ", ".join(f"{name}={value:.6g}" for name, value in list(point.items())[:4])
    return True, f"{left:.8g} against {right:.8g}" + (f" at {at}" if at else "")


def _double(expression: Expression, point: dict[str, float]) -> float:
    return _DOUBLES[type(expression)](expression, point)


def _bounded(result: float) -> float:
    if not 1 / _HUGE < abs(result) < _HUGE:
        raise _Unsure
    return result


def _number(expression: Number, _: dict[str, float]) -> float:
    value = expression.value
    top = value.numerator
    return _bounded(top / value.denominator) if top else 0.0


def _variable(expression: Variable, point: dict[str, float]) -> float:
    name = expression.name
    if name not in point:
        point[name] = 0.4 + zlib.crc32(name.encode("utf-8", "surrogatepass")) % 999_983 / 499_991
    return point[name]


def _constant(expression: Constant, _: dict[str, float]) -> float:
    if expression.name not in _CONSTANTS:
        raise _Unsure
    return _CONSTANTS[expression.name]


def _product(expression: Product, point: dict[str, float]) -> float:
    result = 1.0
    for factor in expression.factors:
        result *= _DOUBLES[type(factor)](factor, point)
    return _bounded(result)


def _sum(expression: Sum, point: dict[str, float]) -> float:
    values = [_DOUBLES[type(term)](term, point) for term in expression.terms]
    result = math.fsum(values)
    if abs(result) < _CANCELLED * max(map(abs, values)):
        raise _Unsure
    return _bounded(result)


def _power(expression: Power, point: dict[str, float]) -> float:
    below, above = _double(expression.base, point), _double(expression.exponent, point)
    if below <= 0 or abs(above) > 64:
        raise _Unsure
    return _bounded(below**above)


def _applied(expression: Apply, point: dict[str, float]) -> float:
    return _bounded(_function(expression.name, [_double(argument, point) for argument in expression.arguments]))


_DOUBLES: Mapping[type, Callable[[Any, dict[str, float]], float]] = {
    Number: _number,
    Variable: _variable,
    Constant: _constant,
    Product: _product,
    Sum: _sum,
    Power: _power,
    Apply: _applied,
}


def _function(name: str, arguments: list[float]) -> float:
    if name == "log":
        value, base = arguments
        if not (value > 0 and base > 0 and abs(math.log(base)) > _CANCELLED):
            raise _Unsure
        result = math.log(value) / math.log(base)
    elif name in _FUNCTIONS and abs(arguments[0]) < _MAX_ARGUMENT:
        result = _FUNCTIONS[name](arguments[0])
    else:
        raise _Unsure
    if abs(result) < _CANCELLED:
        raise _Unsure
    return result


def same_square_roots(one: Expression, other: Expression) -> bool:
    """Whether both are products of rationals and square roots of rationals whose squares are the same; their signs are compared before."""
    try:
        return _square(one) == _square(other)
    except _Unsure:
        return False


def _square(expression: Expression) -> Fraction:
    match expression:
        case Number(value):
            return value * value
        case Product(factors):
            result = Fraction(1)
            for factor in factors:
                result *= _square(factor)
            return result
        case Power(Number(base), Number(exponent)) if base > 0 and exponent in (_HALF, -1):
            return base if exponent == _HALF else 1 / (base * base)
        case Power(Power(Number(base), Number(exponent)), Number(outer)) if base > 0 and exponent == _HALF and outer == -1:
            return 1 / base
    raise _Unsure


_HALF = Fraction(1, 2)
