r"""Are two quotients of polynomials the same? Proved either way by one evaluation with whole numbers (Kronecker's substitution).

A polynomial with whole coefficients that are smaller than 2^(k-1) is 0 exactly when its value is 0 at x = 2^k, y = 2^(k m), .. where m
is greater than its degree in x, and so on: its coefficients stand in that value side by side. Bounds of coefficients and degrees are
read off the trees, so nothing is multiplied out.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence.forms import Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import MAX_KRONECKER_BITS

_MAX_EXPONENT = 200
Degrees = dict[str, int]


@dataclass(frozen=True, slots=True)
class _Size:
    """Bounds of numerator and denominator: the sum of the absolute coefficients, in bits, and the degree in each variable."""

    top_bits: float
    bottom_bits: float
    top: Degrees
    bottom: Degrees


class _NoPolynomial(Exception):
    """It is no quotient of polynomials, or one too big to look at."""


def same_polynomials(one: Expression, other: Expression) -> bool | None:
    """Whether both are the same quotient of polynomials; None where one of them is none, is too big, or divides by 0."""
    small = _same_in_one_variable(one, other)
    return small if small is not None else _same_at_powers_of_two(one, other)


def _same_in_one_variable(one: Expression, other: Expression) -> bool | None:
    """Multiplied out, which is quicker for the few terms that most answers have; None where it is not as simple as that."""
    names: set[str] = set()
    try:
        left = _expanded(one, names)
        right = _expanded(other, names)
    except _NoPolynomial:
        return None
    return left == right if len(names) <= 1 else None


_Coefficients = dict[int, int | Fraction]  # by their power, without zeros
_MAX_MULTIPLIED = 40  # terms with terms
_MAX_SMALL_BITS = 400


def _expanded(expression: Expression, names: set[str]) -> _Coefficients:
    kind = type(expression)
    if kind is Number:
        value = expression.value  # type: ignore[union-attr]
        return {0: value.numerator if value.denominator == 1 else value} if value else {}
    if kind is Variable:
        names.add(expression.name)  # type: ignore[union-attr]
        return {1: 1}
    if kind is Sum:
        total: _Coefficients = {}
        for term in expression.terms:  # type: ignore[union-attr]
            for power, value in _expanded(term, names).items():
                total[power] = total.get(power, 0) + value
        return {power: value for power, value in total.items() if value}
    if kind is Product:
        parts = [_expanded(factor, names) for factor in expression.factors]  # type: ignore[union-attr]
        return functools.reduce(_times, parts)
    if kind is not Power or type(expression.exponent) is not Number:  # type: ignore[union-attr]
        raise _NoPolynomial
    exponent = expression.exponent.value  # type: ignore[union-attr]
    if exponent.denominator != 1 or not 1 <= exponent.numerator <= _MAX_EXPONENT:
        raise _NoPolynomial
    base = _expanded(expression.base, names)  # type: ignore[union-attr]
    if base == {1: 1}:
        return {exponent.numerator: 1}
    if exponent.numerator > _MAX_SMALL_POWER:
        raise _NoPolynomial
    return functools.reduce(_times, [base] * exponent.numerator)


_MAX_SMALL_POWER = 4


def _times(one: _Coefficients, other: _Coefficients) -> _Coefficients:
    if len(one) * len(other) > _MAX_MULTIPLIED:
        raise _NoPolynomial
    total: _Coefficients = {}
    for left, left_value in one.items():
        for right, right_value in other.items():
            value = left_value * right_value
            if value.numerator.bit_length() > _MAX_SMALL_BITS:
                raise _NoPolynomial
            total[left + right] = total.get(left + right, 0) + value
    return {power: value for power, value in total.items() if value}


def _same_at_powers_of_two(one: Expression, other: Expression) -> bool | None:
    try:
        left, right = _size(one), _size(other)
        # What must be 0 is the difference of the cross products.
        bits = max(left.top_bits + right.bottom_bits, right.top_bits + left.bottom_bits) + 3
        degrees = _joined(_added(left.top, right.bottom), _added(right.top, left.bottom))
        position, values = math.ceil(bits), {}
        for name in sorted(degrees):
            values[name] = position
            position *= degrees[name] + 1
        if position > MAX_KRONECKER_BITS:
            return None
        (left_top, left_bottom), (right_top, right_bottom) = (_value(side, values) for side in (one, other))
    except _NoPolynomial:
        return None
    return left_top * right_bottom == right_top * left_bottom if left_bottom and right_bottom else None


def _joined(one: Degrees, other: Degrees) -> Degrees:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one.keys() | other.keys()} if one or other else one


def _added(one: Degrees, other: Degrees) -> Degrees:
    if not one or not other:
        return one or other
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}


def _size(expression: Expression) -> _Size:
    match expression:
        case Number(value):
            return _Size(_bits(value.numerator), _bits(value.denominator), {}, {})
        case Variable(name):
            return _Size(0.0, 0.0, {name: 1}, {})
        case Product(factors):
            total = _size(factors[0])
            for factor in factors[1:]:
                size = _size(factor)
                total = _Size(
                    total.top_bits + size.top_bits,
                    total.bottom_bits + size.bottom_bits,
                    _added(total.top, size.top),
                    _added(total.bottom, size.bottom),
                )
            return total
        case Sum(terms):
            total = _size(terms[0])
            for term in terms[1:]:
                total = _sum_size(total, _size(term))
            return total
        case Power(base, Number(exponent)) if exponent.denominator == 1 and abs(exponent.numerator) <= _MAX_EXPONENT:
            return _power_size(_size(base), exponent.numerator)
    raise _NoPolynomial


def _sum_size(one: _Size, other: _Size) -> _Size:
    top_bits = max(one.top_bits + other.bottom_bits, other.top_bits + one.bottom_bits) + 1
    if top_bits > MAX_KRONECKER_BITS:
        raise _NoPolynomial
    top = _joined(_added(one.top, other.bottom), _added(other.top, one.bottom))
    return _Size(top_bits, one.bottom_bits + other.bottom_bits, top, _added(one.bottom, other.bottom))


def _power_size(base: _Size, power: int) -> _Size:
    if power < 0:
        base, power = _Size(base.bottom_bits, base.top_bits, base.bottom, base.top), -power
    if max(base.top_bits, base.bottom_bits) * power > MAX_KRONECKER_BITS:
        raise _NoPolynomial
    top, bottom = ({name: degree * power for name, degree in degrees.items()} for degrees in (base.top, base.bottom))
    return _Size(base.top_bits * power, base.bottom_bits * power, top, bottom)


def _bits(value: int) -> float:
    return float(abs(value).bit_length())


def _value(expression: Expression, positions: Degrees) -> tuple[int, int]:
    """Numerator and denominator at the powers of two."""
    match expression:
        case Number(value):
            return value.numerator, value.denominator
        case Variable(name):
            return 1 << positions[name], 1
        case Product(factors):
            top = bottom = 1
            for factor in factors:
                other_top, other_bottom = _value(factor, positions)
                top, bottom = top * other_top, bottom * other_bottom
            return top, bottom
        case Sum(terms):
            top, bottom = 0, 1
            for term in terms:
                other_top, other_bottom = _value(term, positions)
                if other_bottom == bottom:
                    top += other_top
                else:
                    top, bottom = top * other_bottom + other_top * bottom, bottom * other_bottom
            return top, bottom
        case Power(base, Number(exponent)):
            return _power(_value(base, positions), exponent)
    raise _NoPolynomial


def _power(base: tuple[int, int], exponent: Fraction) -> tuple[int, int]:
    top, bottom = base
    if exponent < 0:
        top, bottom = bottom, top
    if not bottom or (not top and exponent == 0):
        raise _NoPolynomial
    power = abs(exponent.numerator)
    return (top, bottom) if power == 1 else (top**power, bottom**power)
