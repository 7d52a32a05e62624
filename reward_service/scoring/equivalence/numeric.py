"""Numbers with sixty digits at fixed points: refutes equality for certain, and supports it strongly.

The points are the same in every process. A context of our own is used, so that no precision set elsewhere matters.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mpmath.ctx_mp import MPContext  # type: ignore[import-untyped]

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.hidden import places_to_compare
from reward_service.scoring.equivalence.limits import MAX_FACTORIAL, MAX_FLOAT_DIGITS, MAX_FLOAT_EXPONENT, MAX_GAMMA_DIGITS
from reward_service.scoring.equivalence.pieces import has_pieces, size, suspects
from reward_service.scoring.equivalence.sampling import FAR_POINTS, POINTS, how_far, point_of, whole_names
from reward_service.scoring.equivalence.sampling import variables as variables

DIGITS = 60
AGREEING_DIGITS = 40  # the bound of a confirmation: two values differ by less than 1e-40 of their size, or the answer is refuted
MAX_EXPONENT_BITS = 60
MAX_ARGUMENT_BITS = 2_000  # of what a trigonometric function is applied to
CONFIRMING_PLACES = 200  # to which two expressions with variables agree at two points that are called equal without a proof
CERTAIN_PLACES = 500  # to which two constants agree that are called equal without a proof
_SNAPPED_DIGITS = 12  # that rounding may have lost where a value is taken for a whole number
_FEWEST_POINTS = 2  # at which both sides must have a value
INFINITE = math.inf
TOLERANCE = 10.0**-AGREEING_DIGITS
_MINUS_INFINITY = Product((Number(Fraction(-1)), Constant("oo")))
Numeral = Any  # mpmath's numbers carry no types


class Evidence(enum.Enum):
    """What numbers say."""

    REFUTED = "refuted"
    AGREES = "agrees"
    UNKNOWN = "unknown"


class NoValue(Exception):
    """The expression has no finite value there, or one too big to look at."""


def compare(one: Expression, other: Expression) -> tuple[Evidence, str]:
    """Whether the two have the same value wherever both have one; and the point where they differ, for people."""
    names = sorted(set(variables(one)) | set(variables(other)))
    whole = whole_names(one, other) if names else frozenset()
    complex_ok = any(_mentions_i(side) for side in (one, other)) or not names
    agreed = 0
    everywhere = any(map(has_pieces, (one, other)))
    in_order = size(one) <= size(other)
    first, second = (one, other) if in_order else (other, one)
    far = how_far(one, other)
    for index in range(POINTS + FAR_POINTS if names else 1):
        if index >= POINTS and agreed >= _FEWEST_POINTS and not everywhere:
            break
        values = point_of(names, whole, index, far)
        value = _value_or_none(first, values, complex_ok)
        its_twin = None if value is None else _value_or_none(second, values, complex_ok)  # the longer needs none where the shorter has none
        if value is None or its_twin is None:
            continue
        left, right = (value, its_twin) if in_order else (its_twin, value)
        if not complex_ok and (_context().im(left) or _context().im(right)):
            continue  # outside the domain in which such answers are meant
        differ = _differ(left, right)
        if differ is None:
            return Evidence.UNKNOWN, ""
        if differ or (names and agreed < _FEWEST_POINTS and not _confirmed(one, other, values, complex_ok)):
            return Evidence.REFUTED, _witness(names, values, left, right)
        agreed += 1
    if agreed < (_FEWEST_POINTS if names else 1):
        return Evidence.UNKNOWN, ""
    witness = _differ_in_pieces(one, other, names, whole) if (everywhere or whole) and names and not complex_ok else None
    return (Evidence.AGREES, "") if witness is None else (Evidence.REFUTED, witness)


def _differ(left: Numeral, right: Numeral) -> bool | None:
    """Whether two values differ; None where both may be zero that rounding hides."""
    scale = max(abs(left), abs(right))
    tolerance = _context().mpf(10) ** -AGREEING_DIGITS
    if abs(left - right) <= scale * tolerance:
        return False
    return None if scale < tolerance else True


def _differ_in_pieces(one: Expression, other: Expression, names: list[str], whole: frozenset[str]) -> str | None:
    """A point, for people, where two expressions differ that agree at the fixed points; None where none was found."""
    for values, by_domain in suspects(one, other, names, whole):
        left, right = (_value_or_none(side, values, False) for side in (one, other))
        if left is None or right is None:
            if by_domain and not (left is None and right is None):
                return ", ".join(f"one has no value at {name}={float(value):.6g}" for name, value in list(values.items())[:1])
        elif _differ(left, right):
            return _witness(names, values, left, right)
    return None


def _confirmed(one: Expression, other: Expression, values: Mapping[str, Fraction], complex_ok: bool) -> bool:
    """Whether the values agree to the last of many places behind the point, however many stand before it."""
    context = _context()
    before_point = 0
    places = places_to_compare(one, other, {name: float(value) for name, value in values.items()}, CONFIRMING_PLACES)
    if places is None:
        return False
    for _ in range(2):
        with context.workdps(places + DIGITS + before_point):
            left, right = (_value_or_none(side, values, complex_ok) for side in (one, other))
            if left is None or right is None:
                return False
            scale = max(abs(left), abs(right))
            needed = max(0, int(context.mag(scale) * 0.302)) if scale else 0
            if needed <= before_point:
                return bool(abs(left - right) < context.mpf(10) ** -places)
            if needed > MAX_FLOAT_DIGITS:
                return False
            before_point = needed + 1
    return False


def agree_to(one: Expression, other: Expression, places: int) -> bool | None:
    """Whether two constants differ by less than 10^-places; None where one of them has no value."""
    context = _context()
    with context.workdps(places + DIGITS):
        left, right = (_value_or_none(side, {}) for side in (one, other))
        if left is None or right is None:
            return None
        before_point = max(0, int(context.mag(left) * 0.302)) if left else 0
        if before_point > MAX_FLOAT_DIGITS:
            return None
        with context.workdps(places + DIGITS + before_point):
            left, right = (_value_or_none(side, {}) for side in (one, other))
            return bool(abs(left - right) < context.mpf(10) ** -places)  # type: ignore[operator]


def near(exact: Expression, approximation: Expression) -> bool:
    """Whether a constant lies within a hundredth of another: close enough to be its rounding."""
    left, right = (_value_or_none(side, {}) for side in (exact, approximation))
    return left is not None and right is not None and bool(abs(left - right) <= abs(left) / 100)


def within(one: Expression, other: Expression, distance: Fraction) -> bool:
    """Whether two constants lie no further apart."""
    left, right = (_value_or_none(side, {}) for side in (one, other))
    return left is not None and right is not None and bool(abs(left - right) <= _context().mpf(distance.numerator) / distance.denominator)


def has_value(constant: Expression) -> bool:
    """Whether a constant has a value that can be looked at."""
    return _value_or_none(constant, {}) is not None


def is_constant(expression: Expression) -> bool:
    """Whether it holds no variable."""
    return next(variables(expression), None) is None


def real_value(expression: Expression) -> Numeral | None:
    """The value of a real constant, or an infinity; None for anything else."""
    if expression == Constant("oo"):
        return INFINITE
    if expression == _MINUS_INFINITY:
        return -INFINITE
    value = _value_or_none(expression, {}) if is_constant(expression) else None
    if value is None or (isinstance(value, _context().mpc) and abs(value.imag) > abs(value) * TOLERANCE):
        return None
    return value.real if isinstance(value, _context().mpc) else value


def real_fraction(expression: Expression) -> Fraction | float | None:
    """The value of a real constant to sixty digits as a fraction, or an infinity; None for anything else."""
    value = real_value(expression)
    if value is None or value in (INFINITE, -INFINITE):
        return value
    sign, mantissa, exponent, _ = value._mpf_
    whole = -int(mantissa) if sign else int(mantissa)
    return Fraction(whole << exponent) if exponent >= 0 else Fraction(whole, 1 << -exponent)


def _mentions_i(expression: Expression) -> bool:
    match expression:
        case Constant("i"):
            return True
        case Sum(parts) | Product(parts) | Apply(_, parts):
            return any(map(_mentions_i, parts))
        case Power(base, exponent):
            return _mentions_i(base) or _mentions_i(exponent)
    return False


@functools.lru_cache(maxsize=1)
def _context() -> Any:
    context = MPContext()
    context.dps = DIGITS
    return context


def _witness(names: list[str], values: Mapping[str, Fraction], left: Numeral, right: Numeral) -> str:
    at = ", ".join(f"{name}={float(values[name]):.6g}" for name in names[:4])
    return f"{_context().nstr(left, 8)} against {_context().nstr(right, 8)}" + (f" at {at}" if at else "")


def _value_or_none(expression: Expression, values: Mapping[str, Fraction], complex_ok: bool = True) -> Numeral | None:
    """The value, if there is one; without `complex_ok` none where a part of the expression has no real value, as `\\sqrt{x}` for x < 0."""
    try:
        value = (_value if complex_ok else _real_value)(expression, values)
    except (NoValue, ArithmeticError, KeyError, ValueError, TypeError):
        return None
    context = _context()
    return value if context.isfinite(value) else None


def _value(expression: Expression, values: Mapping[str, Fraction]) -> Numeral:
    context = _context()
    match expression:
        case Number(value):
            return context.mpf(value.numerator) / value.denominator
        case Constant(name):
            return _constant(name)
        case Variable(name):
            return context.mpf(values[name].numerator) / values[name].denominator
        case Sum(terms):
            return _checked(context.fsum([_value(term, values) for term in terms]))
        case Product(factors):
            return _checked(context.fprod([_value(factor, values) for factor in factors]))
        case Power(base, exponent):
            return _checked(_power(_value(base, values), _value(exponent, values), exponent))
        case Apply(name, arguments):
            return _checked(_apply(name, [_value(argument, values) for argument in arguments]))


def _real_value(expression: Expression, values: Mapping[str, Fraction]) -> Numeral:
    match expression:
        case Sum(terms):
            value = _context().fsum([_real_value(term, values) for term in terms])
        case Product(factors):
            value = _context().fprod([_real_value(factor, values) for factor in factors])
        case Power(base, exponent):
            value = _power(_real_value(base, values), _real_value(exponent, values), exponent)
        case Apply(name, arguments):
            value = _apply(name, [_real_value(argument, values) for argument in arguments])
        case _:
            return _value(expression, values)
    if _context().im(value):
        raise NoValue
    return _checked(value)


def _checked(value: Numeral) -> Numeral:
    """Refuse numbers whose very size is a weapon: towers of powers."""
    context = _context()
    if not context.isfinite(value) or (value and abs(context.mag(value)) > MAX_FLOAT_EXPONENT * 4):
        raise NoValue
    return value


def _constant(name: str) -> Numeral:
    context = _context()
    if name == "oo":
        raise NoValue
    return {"pi": +context.pi, "e": +context.e, "i": context.j, "deg": context.pi / 180}[name]


def _power(base: Numeral, exponent: Numeral, written: Expression) -> Numeral:
    context = _context()
    if base and abs(context.mag(base)) * abs(context.re(exponent)) + abs(context.im(exponent)) > MAX_FLOAT_EXPONENT * 4:
        raise NoValue
    if exponent and context.mag(exponent) > MAX_EXPONENT_BITS:
        raise NoValue  # of a base between a half and one the size says nothing
    if not base and context.re(exponent) <= 0:
        raise NoValue
    if not isinstance(written, Number) and not context.im(base) and context.re(base) < 0:
        exponent = _snapped(exponent)  # `(-1)^{n/3}` with n = 6
    odd_root = isinstance(written, Number) and written.value.denominator % 2 == 1 < written.value.denominator
    if odd_root and not context.im(base) and context.re(base) < 0:
        return (-1 if written.value.numerator % 2 else 1) * context.power(-context.re(base), exponent)  # type: ignore[union-attr]
    return context.power(base, exponent)


def _snapped(value: Numeral) -> Numeral:
    """The whole number that a real number is but for rounding, as `\\log_2 8`; any other number itself."""
    context = _context()
    if context.im(value):
        return value
    nearest = context.nint(value)
    return nearest if abs(value - nearest) <= context.mpf(10) ** (_SNAPPED_DIGITS - context.dps) * max(1, abs(value)) else value


_PLAIN = frozenset("sin cos tan cot sec csc sinh cosh tanh coth re im".split())
_INVERSE = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc"}


def _apply(name: str, arguments: list[Numeral]) -> Numeral:
    context = _context()
    first = arguments[0]
    if name in _PLAIN:
        if first and context.mag(first) > MAX_ARGUMENT_BITS:
            raise NoValue  # reducing it by pi would cost as many bits
        return getattr(context, name)(first)
    if name in _INVERSE:
        return getattr(context, _INVERSE[name])(first)
    if name == "log":
        if not (first and arguments[1]):
            raise NoValue
        return context.ln(first) / context.ln(arguments[1])
    if name == "abs":
        return abs(first)
    if name in ("floor", "ceiling", "sgn"):
        return {"floor": context.floor, "ceiling": context.ceil, "sgn": context.sign}[name](first if name == "sgn" else _snapped(first))
    if name in ("max", "min"):
        return max(arguments) if name == "max" else min(arguments)
    if name in ("factorial", "binomial"):
        between = not all(map(context.isint, arguments))
        if any(context.im(argument) or abs(argument) > MAX_FACTORIAL for argument in arguments):
            raise NoValue
        if between and context.dps > MAX_GAMMA_DIGITS:
            raise NoValue
        return context.factorial(first) if name == "factorial" else context.binomial(*arguments)
    raise NoValue
