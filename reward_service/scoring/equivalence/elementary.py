r"""Exact values of elementary functions: `\cos 60^\circ`, `\ln 8`, as expressions that the algebra can take further apart."""

from __future__ import annotations

import math
from fractions import Fraction

from reward_service.scoring.equivalence.forms import Expression, Number, Power, Product, Sum
from reward_service.scoring.equivalence.limits import MAX_POWER_BITS, MAX_WHOLE_FACTORIAL, LimitExceeded, check_count

_TWELFTHS = 12


def _number(top: int, bottom: int = 1) -> Number:
    return Number(Fraction(top, bottom))


def _root(of: int, over: int) -> Expression:
    return Product((_number(1, over), Power(_number(of), _number(1, 2))))


_SINES: tuple[Expression, ...] = (
    _number(0),
    Sum((_root(6, 4), _root(2, -4))),
    _number(1, 2),
    _root(2, 2),
    _root(3, 2),
    Sum((_root(6, 4), _root(2, 4))),
    _number(1),
)  # of 0 to 6 twelfths of pi


def sine(share: Fraction) -> Expression | None:
    """The sine of `share` times pi, where that is a multiple of 15 degrees."""
    twelfths = share * _TWELFTHS
    if twelfths.denominator != 1:
        return None
    step = int(twelfths) % 24
    negative, step = step >= 12, step % 12
    value = _SINES[min(step, 12 - step)]
    return Product((_number(-1), value)) if negative else value


def trigonometric(name: str, share: Fraction) -> Expression | None:
    """The function's value at `share` times pi, where it is known and exists.

    Raises:
        ZeroDivisionError: it has no value there.
    """
    one, other = sine(share), sine(share + Fraction(1, 2))
    if one is None or other is None:
        return None
    zero = _number(0)
    top, bottom = {
        "sin": (one, None), "cos": (other, None), "tan": (one, other), "cot": (other, one), "sec": (None, other), "csc": (None, one),
    }.get(name, (None, None))  # fmt: skip
    if bottom == zero:
        raise ZeroDivisionError
    if bottom is None:
        return top
    inverse = Power(bottom, _number(-1))
    return inverse if top is None else Product((top, inverse))


_WITHOUT_VALUE_AT_ZERO = frozenset({"coth", "arcsec", "arccsc"})


def known_value(name: str, values: list[Fraction]) -> Fraction | None:
    """Functions that are rational at rational arguments.

    Raises:
        ZeroDivisionError: it has no value there, as the factorial of -1.
    """
    if (name in _WITHOUT_VALUE_AT_ZERO and not values[0]) or (name == "factorial" and values[0] < 0 and values[0].denominator == 1):
        raise ZeroDivisionError
    if name == "abs":
        return abs(values[0])
    if name == "floor":
        return Fraction(math.floor(values[0]))
    if name == "ceiling":
        return Fraction(math.ceil(values[0]))
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if any(value.denominator != 1 for value in values):
        if name in ("factorial", "binomial"):
            raise LimitExceeded("whole_arguments")  # SymPy takes minutes over the gamma function
        return None
    return _known_whole(name, [int(value) for value in values])


def _known_whole(name: str, values: list[int]) -> Fraction | None:
    if name == "factorial" and values[0] >= 0:
        check_count(values[0], MAX_WHOLE_FACTORIAL, "max_factorial")
        return Fraction(math.factorial(values[0]))
    if name == "binomial" and 0 <= values[1] <= values[0]:
        chosen = min(values[1], values[0] - values[1])
        check_count(chosen, MAX_WHOLE_FACTORIAL, "max_factorial")
        check_count(chosen * values[0].bit_length(), MAX_POWER_BITS, "max_power_bits")
        return Fraction(math.comb(values[0], values[1]))
    if name in ("gcd", "lcm"):
        return Fraction(math.gcd(*values) if name == "gcd" else math.lcm(*values))
    return None
