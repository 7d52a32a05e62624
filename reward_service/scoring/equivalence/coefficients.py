"""Coefficients of expressions in one variable, where they are plainly linear or quadratic."""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence.exact import ONE, VARIABLE, quotient_of
from reward_service.scoring.equivalence.forms import Expression


def linear(expression: Expression) -> tuple[str, Fraction, Fraction] | None:
    """The variable, the slope (not 0) and the offset of an expression like `2x - 1`."""
    found = quotient_of(expression)
    if found is None or set(found[1]) != {ONE}:
        return None
    top, bottom = found
    rest = [(monomial, value) for monomial, value in top.items() if monomial != ONE]
    if len(rest) != 1 or len(rest[0][0]) != 1:
        return None
    ((((name, power),), slope),) = rest
    if power != 1 or not name.startswith(VARIABLE):
        return None
    return name.removeprefix(VARIABLE), Fraction(slope) / bottom[ONE], Fraction(top.get(ONE, 0)) / bottom[ONE]


def quadratic(expression: Expression) -> tuple[str, Fraction, Fraction, Fraction] | None:
    """The variable and the coefficients a (not 0), b and c of an expression like `x^2 - 5x + 6`."""
    found = quotient_of(expression)
    if found is None or set(found[1]) != {ONE}:
        return None
    top, bottom = found
    name = next((name for monomial in top for name, _ in monomial), "")
    if not name.startswith(VARIABLE):
        return None
    powers = [((name, Fraction(power)),) if power else ONE for power in (2, 1, 0)]
    a, b, c = (Fraction(top.get(power, 0)) / bottom[ONE] for power in powers)
    return (name.removeprefix(VARIABLE), a, b, c) if a and set(top) <= set(powers) else None
