r"""Are two constants made of rationals, roots and `i` equal? Decided by a separation bound: such a number is 0, or not that small.

For an expression E of integers, sums, products, quotients and roots let u and l be as below, and D the product of the degrees of its
roots. Then E is 0 or |E| >= 1 / (u^(D-1) * l): Burnikel, Fleischer, Mehlhorn, Schirra, "A strong and easily computable separation bound
for arithmetic expressions involving radicals", Algorithmica 27 (2000), theorem 2. A value that is smaller, to enough digits, is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence.forms import Constant, Expression, Number, Power, Product, Sum
from reward_service.scoring.equivalence.limits import MAX_SEPARATION_DIGITS

_MINUS_ONE = Number(Fraction(-1))
_MAX_ROOT = 64
_GUARD_DIGITS = 20


@dataclass(frozen=True, slots=True)
class _Bound:
    """Decimal logarithms of u and l."""

    upper: float
    lower: float


_MAX_POWER = 10**12  # beyond, the bound has too many digits whatever the base


class _NotAlgebraic(Exception):
    """The expression holds more than rationals, roots and `i`."""


def digits_to_decide(one: Expression, other: Expression) -> int | None:
    """The decimal places to which a difference must be looked at to know whether it is 0; None where that is not known, or too many."""
    reader = _Reader()
    try:
        bound = reader.bound(Sum((one, Product((_MINUS_ONE, other)))))
    except _NotAlgebraic:
        return None
    digits = (math.prod(reader.roots.values()) - 1) * max(0.0, bound.upper) + max(0.0, bound.lower)
    return math.ceil(digits) + _GUARD_DIGITS if digits <= MAX_SEPARATION_DIGITS else None


class _Reader:
    """Collects the degree of each different root while it works out bounds."""

    def __init__(self) -> None:
        self.roots: dict[Expression, int] = {}

    def bound(self, expression: Expression) -> _Bound:
        """The bounds of an expression.

        Raises:
            _NotAlgebraic: it is not made of rationals, roots and `i`.
        """
        match expression:
            case Number(value):
                return _Bound(_log(abs(value.numerator)), _log(value.denominator))
            case Constant("i"):
                self.roots[expression] = 2
                return _Bound(0.0, 0.0)
            case Sum(terms):
                return self._sum([self.bound(term) for term in terms])
            case Product(factors):
                parts = [self.bound(factor) for factor in factors]
                return _Bound(sum(part.upper for part in parts), sum(part.lower for part in parts))
            case Power(base, Number(exponent)):
                return self._power(expression, self.bound(base), exponent)
        raise _NotAlgebraic

    def _sum(self, parts: list[_Bound]) -> _Bound:
        lower = sum(part.lower for part in parts)
        upper = max(part.upper + lower - part.lower for part in parts) + _log(len(parts))
        return _Bound(upper, lower)

    def _power(self, expression: Expression, base: _Bound, exponent: Fraction) -> _Bound:
        if exponent.denominator > _MAX_ROOT or abs(exponent.numerator) > _MAX_POWER:
            raise _NotAlgebraic
        if exponent.denominator > 1:
            self.roots[expression] = exponent.denominator
        if exponent < 0:
            base = _Bound(base.lower, base.upper)
        power = float(abs(exponent))
        return _Bound(base.upper * power, base.lower * power)


def _log(value: int) -> float:
    return math.log10(value) if value else 0.0
