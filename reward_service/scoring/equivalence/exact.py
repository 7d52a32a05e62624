r"""Exact algebra: expressions as quotients of polynomials over the rationals, which decides most equalities with a proof.

The generators are variables, constants, roots of primes and whatever else cannot be taken apart (`sin(x)` is one, named by its own
normal form). A zero difference of two such quotients is a proof of equality; a difference that is not zero proves nothing, as
generators may depend on each other (`sin^2 + cos^2`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import MAX_EXPONENT, MAX_FACTORIAL, MAX_POWER_BITS, MAX_TERMS, LimitExceeded, check_count

Monomial = tuple[tuple[str, Fraction], ...]  # sorted generators with their exponents
Polynomial = dict[Monomial, Fraction]
Quotient = tuple[Polynomial, Polynomial]
_ONE: Monomial = ()
_TRIAL_LIMIT = 1_000
_ROOT = "root:"  # generators that are positive integers under a root


def equal(one: Expression, other: Expression) -> bool:
    """Whether equality is proved. False says nothing."""
    if one == other:
        return True
    try:
        top_one, bottom_one = quotient(one)
        top_other, bottom_other = quotient(other)
        return not _added(_multiplied(top_one, bottom_other), _multiplied(top_other, bottom_one), -1)
    except (LimitExceeded, ZeroDivisionError):
        return False


def within_limits(expression: Expression) -> bool:
    """Whether the expression can be multiplied out within the bounds; if not, no stage may try."""
    try:
        quotient(expression)
    except LimitExceeded:
        return False
    except ZeroDivisionError:
        return True
    return True


def proportional(one: Expression, other: Expression) -> Fraction | None:
    """The rational factor by which polynomials `one` and `other` differ, if they do."""
    try:
        (top_one, bottom_one), (top_other, bottom_other) = quotient(one), quotient(other)
        left, right = _multiplied(top_one, bottom_other), _multiplied(top_other, bottom_one)
    except (LimitExceeded, ZeroDivisionError):
        return None
    if not left or left.keys() != right.keys():
        return None
    key = next(iter(left))
    factor = left[key] / right[key]
    return factor if all(left[monomial] == factor * right[monomial] for monomial in left) else None


def rational(expression: Expression) -> Fraction | None:
    """The expression's value, if it is provably rational."""
    try:
        top, bottom = quotient(expression)
    except (LimitExceeded, ZeroDivisionError):
        return None
    if set(top) <= {_ONE} and set(bottom) == {_ONE}:
        return top.get(_ONE, Fraction(0)) / bottom[_ONE]
    return None


def quotient(expression: Expression) -> Quotient:
    """Numerator and denominator.

    Raises:
        LimitExceeded: too big to multiply out.
        ZeroDivisionError: it divides by zero.
    """
    match expression:
        case Number(value):
            return _constant(value), _constant(Fraction(1))
        case Constant("i"):
            return {(("i", Fraction(1)),): Fraction(1)}, _constant(Fraction(1))
        case Constant(name):
            return _generator(f"const:{name}")
        case Variable(name):
            return _generator(f"var:{name}")
        case Sum(terms):
            return _sum(terms)
        case Product(factors):
            return _product(factors)
        case Power(base, exponent):
            return _power(base, exponent)
        case Apply(name, arguments):
            return _apply(name, arguments)


def key(expression: Expression) -> str:
    """A text that equal trees share; many equal expressions share it too."""
    top, bottom = quotient(expression)
    scale = bottom[min(bottom)]
    return f"{_text(top, scale)}/{_text(bottom, scale)}"


def _text(polynomial: Polynomial, scale: Fraction) -> str:
    return "+".join(f"{value / scale}*{monomial}" for monomial, value in sorted(polynomial.items()))


def _constant(value: Fraction) -> Polynomial:
    return {_ONE: value} if value else {}


def _generator(name: str, exponent: Fraction = Fraction(1)) -> Quotient:
    one = _constant(Fraction(1))
    if exponent < 0:
        return one, {((name, -exponent),): Fraction(1)}
    return {((name, exponent),): Fraction(1)}, one


def _sum(terms: tuple[Expression, ...]) -> Quotient:
    top, bottom = quotient(terms[0])
    for term in terms[1:]:
        other_top, other_bottom = quotient(term)
        if other_bottom == bottom:
            top = _added(top, other_top)
        else:
            top = _added(_multiplied(top, other_bottom), _multiplied(other_top, bottom))
            bottom = _multiplied(bottom, other_bottom)
    return top, bottom


def _product(factors: tuple[Expression, ...]) -> Quotient:
    top, bottom = quotient(factors[0])
    for factor in factors[1:]:
        other_top, other_bottom = quotient(factor)
        top, bottom = _multiplied(top, other_top), _multiplied(bottom, other_bottom)
    return top, bottom


def _added(one: Polynomial, other: Polynomial, sign: int = 1) -> Polynomial:
    total = dict(one)
    for monomial, value in other.items():
        rest = total.get(monomial, Fraction(0)) + sign * value
        if rest:
            total[monomial] = rest
        else:
            total.pop(monomial, None)
    return total


def _multiplied(one: Polynomial, other: Polynomial) -> Polynomial:
    check_count(len(one) * len(other), MAX_TERMS * 20, "max_terms")
    total: Polynomial = {}
    for left, left_value in one.items():
        for right, right_value in other.items():
            factor, monomial = _monomial(left, right)
            value = total.get(monomial, Fraction(0)) + left_value * right_value * factor
            if value:
                total[monomial] = value
            else:
                total.pop(monomial, None)
    check_count(len(total), MAX_TERMS, "max_terms")
    return total


def _monomial(left: Monomial, right: Monomial) -> tuple[Fraction, Monomial]:
    """The product of two monomials, with powers of `i` and whole powers of roots taken out as a rational factor."""
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, Fraction(0)) + exponent
    factor = Fraction(1)
    for name in [name for name in exponents if name == "i" or name.startswith(_ROOT)]:
        whole = exponents[name]
        if name == "i":
            factor *= (1, 1, -1, -1)[int(whole) % 4]
            exponents[name] = whole % 2
        else:
            factor *= Fraction(int(name[len(_ROOT) :])) ** math.floor(whole)
            exponents[name] = whole % 1
    return factor, tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent))


def _power(base: Expression, exponent: Expression) -> Quotient:
    power = rational(exponent)
    if power is None:
        return _generator(f"({key(base)})^({key(exponent)})")
    top, bottom = quotient(base)
    if power.denominator == 1:
        return _whole_power(top, bottom, int(power))
    value = rational(base)
    if value is not None:
        return _root(value, power)
    if isinstance(base, Variable) or (isinstance(base, Constant) and base.name != "i"):
        ((name, _),) = next(iter(top))
        return _generator(name, power)
    # Another base stays whole under the fraction of the exponent; the whole part of the exponent is multiplied out.
    whole = math.floor(power)
    left_top, left_bottom = _whole_power(top, bottom, whole)
    right_top, right_bottom = _generator(f"({key(base)})", power - whole)
    return _multiplied(left_top, right_top), _multiplied(left_bottom, right_bottom)


def _whole_power(top: Polynomial, bottom: Polynomial, power: int) -> Quotient:
    if power < 0:
        if not top:
            raise ZeroDivisionError
        top, bottom, power = bottom, top, -power
    return _repeated(top, power), _repeated(bottom, power)


def _repeated(polynomial: Polynomial, power: int) -> Polynomial:
    if len(polynomial) <= 1:
        for monomial, value in polynomial.items():
            check_count(power * max(value.numerator.bit_length(), value.denominator.bit_length()), MAX_POWER_BITS, "max_power_bits")
            factor, scaled = _monomial(tuple((name, exponent * power) for name, exponent in monomial), ())
            return {scaled: value**power * factor}
        return {} if power else _constant(Fraction(1))
    check_count(power, MAX_EXPONENT, "max_exponent")
    result = _constant(Fraction(1))
    for _ in range(power):
        result = _multiplied(result, polynomial)
    return result


def _root(value: Fraction, power: Fraction) -> Quotient:
    """A rational number to a fractional power: roots of its prime factors. An odd root of a negative number is the real one."""
    if value == 0:
        if power < 0:
            raise ZeroDivisionError
        return {}, _constant(Fraction(1))
    check_count(max(value.numerator.bit_length(), value.denominator.bit_length()) * math.ceil(abs(power)), MAX_POWER_BITS, "max_power_bits")
    sign: Polynomial = _constant(Fraction(1))
    if value < 0:
        if power.denominator % 2:
            sign = _constant(Fraction(-1 if power.numerator % 2 else 1))
        elif power.denominator == 2:
            sign = _repeated({(("i", Fraction(1)),): Fraction(1)}, power.numerator % 4)
        else:
            return _generator(f"({value})^({power})")
    exponents: dict[str, Fraction] = {}
    for number, direction in ((abs(value.numerator), 1), (value.denominator, -1)):
        for prime, count in _factors(number).items():
            name = f"{_ROOT}{prime}"
            exponents[name] = exponents.get(name, Fraction(0)) + direction * count * power
    factor, monomial = _monomial(tuple(exponents.items()), ())
    return _multiplied(sign, {monomial: factor}), _constant(Fraction(1))


def _factors(number: int) -> Mapping[int, int]:
    """Prime factors by trial division; what is left beyond the limit stays whole, unless it is a square."""
    factors: dict[int, int] = {}
    for divisor in range(2, _TRIAL_LIMIT):
        if divisor * divisor > number:
            break
        while number % divisor == 0:
            number //= divisor
            factors[divisor] = factors.get(divisor, 0) + 1
    if number > 1:
        half = math.isqrt(number)
        square = half * half == number
        factors[half if square else number] = factors.get(half if square else number, 0) + (2 if square else 1)
    return factors


def _apply(name: str, arguments: tuple[Expression, ...]) -> Quotient:
    values = [rational(argument) for argument in arguments]
    known = _known(name, [value for value in values if value is not None]) if None not in values else None
    if known is not None:
        return _constant(known), _constant(Fraction(1))
    if name == "log" and values[0] is not None and values[1] is not None and values[0] == values[1] > 0 != values[1] - 1:
        return _constant(Fraction(1)), _constant(Fraction(1))
    return _generator(f"{name}({', '.join(map(key, arguments))})")


def _known(name: str, values: list[Fraction]) -> Fraction | None:
    """Functions that are rational at rational arguments."""
    if name == "abs":
        return abs(values[0])
    if name == "floor":
        return Fraction(math.floor(values[0]))
    if name == "ceiling":
        return Fraction(math.ceil(values[0]))
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if any(value.denominator != 1 for value in values):
        return None
    return _known_whole(name, [int(value) for value in values])


def _known_whole(name: str, values: list[int]) -> Fraction | None:
    if name == "factorial" and values[0] >= 0:
        check_count(values[0], MAX_FACTORIAL, "max_factorial")
        return Fraction(math.factorial(values[0]))
    if name == "binomial" and 0 <= values[1] <= values[0]:
        check_count(values[0], MAX_FACTORIAL, "max_factorial")
        return Fraction(math.comb(values[0], values[1]))
    if name in ("gcd", "lcm"):
        return Fraction(math.gcd(*values) if name == "gcd" else math.lcm(*values))
    return None
