r"""How far behind the point two expressions must be compared, so that what is written in them cannot hide beyond the last place.

`x + 10^{-600}` agrees with `x` to 599 places, and `1 - e^{-10000}` with 1 to 4342. No bound is known for expressions with sines and
exponentials; but the numbers that are written in them, with their powers worked out, say how small a difference they can make: the
sum of the decimal logarithms of their heights, as for algebraic numbers (`algebraic.py`). Where that is more than can be afforded,
nothing is called equal without a proof.
"""

from __future__ import annotations

import math

from reward_service.scoring.equivalence.doubles import Point, real_double
from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum
from reward_service.scoring.equivalence.limits import MAX_DEEP_DIGITS, MAX_DEEP_WORK

_OF_A_NAME = 0.1  # at least: of a constant, or of a variable that is near 1
_OF_A_JOINT = 0.3
_CONTACT = 2  # `\cos 10^{-300}` differs from 1 by half the square of its argument
_SATURATING = frozenset({"tanh", "coth", "sinh", "cosh"})
_GROWING = frozenset({"factorial", "binomial"})
_MARGIN = 100  # places behind what the numbers can hide


def places_to_compare(one: Expression, other: Expression, point: Point, least: int) -> int | None:
    """The decimal places that decide, `least` for numbers of everyday size; None where they are too many to look at."""
    reach = _reach(one, point) + _reach(other, point)
    if reach + _MARGIN <= least:
        return least
    places = reach + _MARGIN
    if places > MAX_DEEP_DIGITS or (places / 1_000) ** 1.5 * (_cost(one) + _cost(other)) > MAX_DEEP_WORK:
        return None
    return math.ceil(places)


def _reach(expression: Expression, point: Point) -> float:
    """A bound of the decimal places that numbers written in it may span, if its letters have values like those of the point."""
    match expression:
        case Number(value):
            return _log(max(abs(value.numerator), value.denominator))
        case Sum(parts) | Product(parts):
            return sum([_reach(part, point) + _OF_A_JOINT for part in parts])
        case Power(base, Number(exponent)):
            return _reach(base, point) * max(1.0, _size(exponent.numerator)) + _log(exponent.denominator)
        case Power(base, exponent):
            return _reach(base, point) * max(1.0, _magnitude(exponent, point)) + _reach(exponent, point)
        case Apply(name, parts):
            inner = sum([_CONTACT * _reach(part, point) + _OF_A_JOINT for part in parts])
            if name in _SATURATING:
                return inner + _magnitude(parts[0], point)
            if name in _GROWING:
                count = _magnitude(parts[0], point)
                return inner + count * math.log10(count + 1)
            return inner
        case _:
            size = abs(real_double(expression, point))
            return max(_OF_A_NAME, abs(math.log10(size))) if size > 0 else _OF_A_NAME  # `i` has no real value


def _magnitude(expression: Expression, point: Point) -> float:
    """A bound of the absolute value at the point; infinity where none is known."""
    match expression:
        case Constant("i"):
            return 1.0
        case Sum(parts):
            return sum([_magnitude(part, point) for part in parts])
        case Product(parts):
            return math.prod([_magnitude(part, point) for part in parts])
    value = abs(real_double(expression, point))
    return math.inf if math.isnan(value) else value


def _size(whole: int) -> float:
    return math.inf if whole.bit_length() > 64 else float(abs(whole))


def _log(value: int) -> float:
    return math.log10(value) if value else 0.0


def _cost(expression: Expression) -> float:
    """About how many functions must be worked out; powers and roots are cheaper."""
    match expression:
        case Sum(parts) | Product(parts):
            return sum(map(_cost, parts))
        case Power(base, Number(exponent)):
            return (_OF_A_POWER if exponent.denominator == 1 else _OF_A_ROOT) + _cost(base)
        case Power(base, exponent):
            return 1 + _cost(base) + _cost(exponent)
        case Apply(_, parts):
            return 1 + sum(map(_cost, parts))
    return 0.0


_OF_A_POWER, _OF_A_ROOT = 0.05, 0.1
