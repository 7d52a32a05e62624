r"""Exact algebra: expressions as quotients of polynomials over the rationals, which decides most equalities with a proof.

The generators are variables, constants, roots of primes and whatever else cannot be taken apart (`sin(x)` is one, named by its own
normal form). A zero difference of two such quotients is a proof of equality; a difference that is not zero proves nothing, as
generators may depend on each other (`sin^2 + cos^2`).
"""

from __future__ import annotations

import functools
import hashlib
import math
from fractions import Fraction

from reward_service.scoring.equivalence.elementary import known_value, trigonometric
from reward_service.scoring.equivalence.factors import prime_factors
from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import (
    MAX_EXPONENT,
    MAX_FACTORS,
    MAX_KEY_CHARS,
    MAX_POWER_BITS,
    MAX_PRODUCTS,
    WORK_PER_PRODUCT,
    LimitExceeded,
    check_count,
)

Scalar = int | Fraction  # whole numbers stay `int`, which is several times as fast
Monomial = tuple[tuple[str, Scalar], ...]  # sorted generators with their exponents; whole ones are `int`, as keys are made of them
Polynomial = dict[Monomial, Scalar]
Quotient = tuple[Polynomial, Polynomial]
ONE: Monomial = ()
VARIABLE = "var:"  # generators that are variables
_PI, _E = "const:pi", "const:e"
_LOGARITHM = "log:"  # generators that are natural logarithms of positive integers
_SYMMETRIC = frozenset({"gcd", "lcm", "max", "min"})
_TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
_ROOT = "root:"  # generators that are positive integers under a root


def equal(one: Expression, other: Expression) -> bool:
    """Whether equality is proved. False says nothing."""
    crossed = _crossed(one, other)
    return crossed is not None and crossed[0] == crossed[1]


def proportional(one: Expression, other: Expression) -> Fraction | None:
    """The rational factor by which `one` and `other` differ, if they provably do."""
    left, right = _crossed(one, other) or ({}, {})
    if not left or left.keys() != right.keys():
        return None
    key = next(iter(left))
    factor = Fraction(left[key]) / right[key]
    return factor if all(left[monomial] == factor * right[monomial] for monomial in left) else None


def rational(expression: Expression) -> Fraction | None:
    """The expression's value, if it is provably rational."""
    found = _outcome(expression)
    return None if isinstance(found, str) else _rational(found)


def quotient_of(expression: Expression) -> Quotient | None:
    """The expression as a quotient of polynomials, if it can be multiplied out within the bounds and does not divide by zero."""
    found = _outcome(expression)
    return None if isinstance(found, str) else found


def within_limits(expression: Expression) -> bool:
    """Whether the expression can be multiplied out within the bounds; if not, no stage may try."""
    return _outcome(expression) != _TOO_BIG


def divides_by_zero(expression: Expression) -> bool:
    """Whether the expression provably has no value."""
    return _outcome(expression) == _UNDEFINED


_TOO_BIG, _UNDEFINED = "too_big", "undefined"


@functools.lru_cache(maxsize=1024)
def _outcome(expression: Expression) -> Quotient | str:
    try:
        return _Algebra().quotient(expression)
    except LimitExceeded:
        return _TOO_BIG
    except ZeroDivisionError:
        return _UNDEFINED


def _crossed(one: Expression, other: Expression) -> tuple[Polynomial, Polynomial] | None:
    left, right = _outcome(one), _outcome(other)
    if isinstance(left, str) or isinstance(right, str):
        return None
    algebra = _Algebra()
    try:
        return algebra.multiplied(left[0], right[1]), algebra.multiplied(right[0], left[1])
    except LimitExceeded:
        return None


class _Algebra:
    """One computation and the work that it has left."""

    def __init__(self) -> None:
        self._products = 0

    def quotient(self, expression: Expression) -> Quotient:
        """Numerator and denominator.

        Raises:
            LimitExceeded: too much to multiply out.
            ZeroDivisionError: it divides by zero.
        """
        match expression:
            case Number(value):
                return _constant(value), _constant(1)
            case Constant("i"):
                return {(("i", 1),): 1}, _constant(1)
            case Constant("deg"):
                return {((_PI, 1),): Fraction(1, 180)}, _constant(1)
            case Constant(name):
                return _generator(f"const:{name}")
            case Variable(name):
                return _generator(VARIABLE + name)
            case Sum(terms):
                return self._sum(terms)
            case Product(factors):
                return self._product(factors)
            case Power(base, exponent):
                return self._power(base, exponent)
            case Apply(name, arguments):
                return self._applied(name, [self.quotient(argument) for argument in arguments])

    def multiplied(self, one: Polynomial, other: Polynomial) -> Polynomial:
        """The product of two polynomials, within the bounds."""
        self._products += len(one) * len(other)
        check_count(self._products, MAX_PRODUCTS, "max_products")
        total: Polynomial = {}
        for left, left_value in one.items():
            for right, right_value in other.items():
                factor, monomial = _monomial(left, right) if left and right else (1, left or right)
                value = total.get(monomial, 0) + left_value * right_value * factor
                check_count(value.numerator.bit_length() + value.denominator.bit_length(), 2 * MAX_POWER_BITS, "max_power_bits")
                if value:
                    total[monomial] = value
                else:
                    total.pop(monomial, None)
        return total

    def _sum(self, terms: tuple[Expression, ...]) -> Quotient:
        top, bottom = self.quotient(terms[0])
        for term in terms[1:]:
            other_top, other_bottom = self.quotient(term)
            if other_bottom == bottom:
                top = _added(top, other_top)
            else:
                top = _added(self.multiplied(top, other_bottom), self.multiplied(other_top, bottom))
                bottom = self.multiplied(bottom, other_bottom)
        return top, bottom

    def _product(self, factors: tuple[Expression, ...]) -> Quotient:
        check_count(len(factors), MAX_FACTORS, "max_factors")
        top, bottom = self.quotient(factors[0])
        for factor in factors[1:]:
            other_top, other_bottom = self.quotient(factor)
            top, bottom = self.multiplied(top, other_top), self.multiplied(bottom, other_bottom)
        return top, bottom

    def _power(self, base_tree: Expression, exponent_tree: Expression) -> Quotient:
        # Each subtree is worked out once: twice would double the work at every level of nesting.
        base, exponent = self.quotient(base_tree), self.quotient(exponent_tree)
        power = _rational(exponent)
        if power is None:
            if not base[0]:
                raise ZeroDivisionError  # `0^x` is none where x is not positive
            turns = _turns(exponent) if base_tree == Constant("e") else None
            parts = (trigonometric("cos", turns), trigonometric("sin", turns)) if turns is not None else (None, None)
            if parts[0] is not None and parts[1] is not None:
                return self.quotient(Sum((parts[0], Product((Constant("i"), parts[1])))))
            return self._exponential(base, base_tree, exponent) or _generator(f"({_key(base)})^({_key(exponent)})")
        if power.denominator == 1:
            return self._whole_power(base, int(power))
        value = _rational(base)
        if value is not None:
            return self._root(value, power)
        if isinstance(base_tree, Variable) or (isinstance(base_tree, Constant) and base_tree.name != "i"):
            ((name, _),) = next(iter(base[0]))
            return _generator(name, power)
        # Another base stays whole under the fraction of the exponent; the whole part of the exponent is multiplied out.
        whole = math.floor(power)
        left_top, left_bottom = self._whole_power(base, whole)
        right_top, right_bottom = _generator(f"({_key(base)})", power - whole)
        return self.multiplied(left_top, right_top), self.multiplied(left_bottom, right_bottom)

    def _exponential(self, base: Quotient, base_tree: Expression, exponent: Quotient) -> Quotient | None:
        """`2^(n + 1)` as twice `2^n`, `e^(x + y)` as a product: e or a number to a polynomial, term by term."""
        top, bottom = exponent
        value = _rational(base)
        constant = Fraction(top.get(ONE, 0)) / bottom.get(ONE, 1)
        if set(bottom) != {ONE} or not (value or base_tree == Constant("e")) or (value and value < 0 and constant.denominator > 1):
            return None
        if value is None:
            primes, result = {_E: 1}, _generator(_E, constant)
        else:
            primes = {"-1": 1} if value < 0 else {}
            for number, direction in ((abs(value.numerator), 1), (value.denominator, -1)):
                primes |= {str(prime): direction * count for prime, count in prime_factors(number).items()}
            result = self._whole_power(base, int(constant)) if constant.denominator == 1 else self._root(value, constant)
        for monomial, coefficient in top.items():
            for prime, count in primes.items() if monomial else ():
                name = _shortened(f"{prime}^{monomial}")
                other = _generator(name, count * Fraction(coefficient) / bottom[ONE])
                result = self.multiplied(result[0], other[0]), self.multiplied(result[1], other[1])
        return result

    def _whole_power(self, base: Quotient, power: int) -> Quotient:
        top, bottom = base
        if power <= 0 and not top:
            raise ZeroDivisionError  # `0^0` has no value either
        if power < 0:
            top, bottom, power = bottom, top, -power
        return self._repeated(top, power), self._repeated(bottom, power)

    def _repeated(self, polynomial: Polynomial, power: int) -> Polynomial:
        if len(polynomial) <= 1:
            for monomial, value in polynomial.items():
                check_count(power * _bits(value), MAX_POWER_BITS, "max_power_bits")
                factor, scaled = _monomial(tuple((name, exponent * power) for name, exponent in monomial), ())
                return {scaled: value**power * factor}
            return {} if power else _constant(1)
        check_count(power, MAX_EXPONENT, "max_exponent")
        result = _constant(1)
        for _ in range(power):
            result = self.multiplied(result, polynomial)
        return result

    def _root(self, value: Fraction, power: Fraction) -> Quotient:
        """A rational number to a fractional power: roots of its prime factors. An odd root of a negative number is the real one."""
        if value == 0:
            if power < 0:
                raise ZeroDivisionError
            return {}, _constant(1)
        check_count(_bits(value) * math.ceil(abs(power)), MAX_POWER_BITS, "max_power_bits")
        sign: Polynomial = _constant(1)
        if value < 0:
            if power.denominator % 2:
                sign = _constant(Fraction(-1 if power.numerator % 2 else 1))
            elif power.denominator == 2:
                sign = self._repeated({(("i", 1),): 1}, power.numerator % 4)
            else:
                return _generator(f"({value})^({power})")
        exponents: dict[str, Scalar] = {}
        for number, direction in ((abs(value.numerator), 1), (value.denominator, -1)):
            for prime, count in prime_factors(number).items():
                name = f"{_ROOT}{prime}"
                exponents[name] = exponents.get(name, 0) + direction * count * power
        factor, monomial = _monomial(tuple(exponents.items()), ())
        return self.multiplied(sign, {monomial: factor}), _constant(1)

    def _applied(self, name: str, arguments: list[Quotient]) -> Quotient:
        values = [value for value in map(_rational, arguments) if value is not None]
        if len(values) == len(arguments):
            if name in ("factorial", "binomial"):
                work = abs(int(values[0])) if name == "factorial" else abs(int(values[1])) * int(values[0]).bit_length() // WORK_PER_PRODUCT
                self._products += work // WORK_PER_PRODUCT
                check_count(self._products, MAX_PRODUCTS, "max_products")
            known = known_value(name, values)
            if known is not None:
                return _constant(known), _constant(1)
        if name in _TRIGONOMETRIC:
            share = _share_of_pi(arguments[0])
            tree = trigonometric(name, share) if share is not None else None
            if tree is not None:
                return self.quotient(tree)
        if name == "log":
            top, bottom = (_logarithm(argument) for argument in arguments)
            if bottom is not None and not bottom:
                raise ZeroDivisionError  # to base 1
            if top is not None and bottom is not None:
                return top, bottom
        keys = map(_key, arguments)
        return _generator(f"{name}({', '.join(sorted(keys) if name in _SYMMETRIC else keys)})")


def _share_of_pi(argument: Quotient) -> Fraction | None:
    """What a rational multiple of pi multiplies it by."""
    top, bottom = argument
    if not top:
        return Fraction(0)
    if set(top) == {((_PI, 1),)} and set(bottom) == {ONE}:
        return Fraction(next(iter(top.values()))) / bottom[ONE]
    return None


def _turns(exponent: Quotient) -> Fraction | None:
    """What a rational multiple of `i pi` multiplies it by."""
    top, bottom = exponent
    if set(top) == {((_PI, 1), ("i", 1))} and set(bottom) == {ONE}:
        return Fraction(next(iter(top.values()))) / bottom[ONE]
    return None


def _logarithm(argument: Quotient) -> Polynomial | None:
    """The natural logarithm of a positive number made of rationals, their roots and powers of e: a sum of logarithms of primes."""
    total: Polynomial = {}
    if not argument[0]:
        raise ZeroDivisionError
    for polynomial, sign in zip(argument, (1, -1), strict=True):
        if len(polynomial) != 1:
            return None
        ((monomial, value),) = polynomial.items()
        if value <= 0:
            return None
        for number, direction in ((value.numerator, sign), (value.denominator, -sign)):
            for prime, count in prime_factors(number).items():
                total = _added(total, {((f"{_LOGARITHM}{prime}", 1),): Fraction(direction * count)})
        for name, exponent in monomial:
            if name == _E:
                total = _added(total, _constant(sign * exponent))
            elif name.startswith(_ROOT):
                total = _added(total, {((f"{_LOGARITHM}{name[len(_ROOT) :]}", 1),): sign * exponent})
            else:
                return None
    return total


def _bits(value: Scalar) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _rational(quotient: Quotient) -> Fraction | None:
    top, bottom = quotient
    if set(top) <= {ONE} and set(bottom) == {ONE}:
        return Fraction(top.get(ONE, 0)) / bottom[ONE]
    return None


def _key(quotient: Quotient) -> str:
    """A text that only equal expressions share. Long ones are cut by their digest, or nesting would multiply their length."""
    top, bottom = quotient
    if not bottom:
        raise ZeroDivisionError
    scale = bottom[min(bottom)]
    text = f"{_text(top, scale)}/{_text(bottom, scale)}"
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) < MAX_KEY_CHARS else hashlib.sha256(text.encode()).hexdigest()


def _text(polynomial: Polynomial, scale: Scalar) -> str:
    scaled = ((Fraction(value) / scale, monomial) for monomial, value in sorted(polynomial.items()))
    return "+".join(f"{value.numerator:x}/{value.denominator:x}*{monomial}" for value, monomial in scaled)


def _constant(value: Scalar) -> Polynomial:
    return {ONE: value.numerator if value.denominator == 1 else value} if value else {}


def _generator(name: str, exponent: Scalar = 1) -> Quotient:
    one, exponent = _constant(1), _plain(exponent)
    if exponent < 0:
        return one, {((name, -exponent),): 1}
    return {((name, exponent),): 1}, one


def _added(one: Polynomial, other: Polynomial, sign: int = 1) -> Polynomial:
    total = dict(one)
    for monomial, value in other.items():
        rest = total.get(monomial, 0) + sign * value
        if rest:
            total[monomial] = rest
        else:
            total.pop(monomial, None)
    return total


def _monomial(left: Monomial, right: Monomial) -> tuple[Scalar, Monomial]:
    """The product of two monomials, with powers of `i` and whole powers of roots taken out as a rational factor."""
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = _plain(exponents.get(name, 0) + exponent)
    factor: Scalar = 1
    for name in [name for name in exponents if name == "i" or name.startswith(_ROOT)]:
        whole = exponents[name]
        if name == "i":
            factor *= (1, 1, -1, -1)[int(whole) % 4]
            exponents[name] = whole % 2
        else:
            factor *= Fraction(int(name[len(_ROOT) :])) ** math.floor(whole)
            exponents[name] = _plain(whole % 1)
    return factor, tuple(sorted([(name, exponent) for name, exponent in exponents.items() if exponent]))


def _plain(value: Scalar) -> Scalar:
    return value.numerator if value.denominator == 1 else value
