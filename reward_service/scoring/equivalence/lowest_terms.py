r"""Have two quotients of polynomials the same zeros? Their numerators in lowest terms are multiples of one another if they have.

Polynomials in several generators are compared as polynomials in one of them after the other, with fixed numbers that look random for
the rest, modulo a prime of 121 bits: a factor that only one side has depends on a generator, and shows when that one is left. Roots and
`i` are numbers there like any other. Two numerators that are no multiples of one another pass with a chance below 10^-30.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence.exact import VARIABLE, Polynomial, quotient_of
from reward_service.scoring.equivalence.forms import Expression
from reward_service.scoring.equivalence.limits import MAX_GENERATORS, MAX_REDUCED_DEGREE, MAX_REDUCED_TERMS

_PRIME = 2**120 + 346_185  # modulo which -1 and the primes up to 31 are squares
_ODD_PART = (_PRIME - 1) // 8
_NO_SQUARE = next(number for number in range(2, 1_000) if pow(number, (_PRIME - 1) // 2, _PRIME) != 1)
_CONSTANTS = ("const:", "root:", "log:")  # what generators that are numbers begin with
_Coefficients = list[int]  # from the constant one upwards, the last not 0; none for 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two quotients are related.

    `proportional`: they have the same zeros, but for those of the denominators. `denominators`: the generators on which the denominators
    depend where these differ; where there are none, the quotients differ by a constant. `independent`: all generators are variables and
    numbers, so that what is not found proportional is not.
    """

    proportional: bool
    denominators: frozenset[str]
    independent: bool


class _NotComparable(Exception):
    """Too big, or with roots that are no numbers modulo the prime."""


def compare_zeros(one: Expression, other: Expression) -> Comparison | None:
    """How two expressions are related in lowest terms; None where it cannot be told, and where one of them is 0 or has no zeros."""
    quotients = quotient_of(one), quotient_of(other)
    if quotients[0] is None or quotients[1] is None:
        return None
    polynomials = (*quotients[0], *quotients[1])
    names = {name for polynomial in polynomials for monomial in polynomial for name, _ in monomial}
    moving = sorted(name for name in names if name != "i" and not name.startswith(_CONSTANTS))
    if not all(polynomials) or not moving or len(moving) > MAX_GENERATORS or sum(map(len, polynomials)) > MAX_REDUCED_TERMS:
        return None
    independent = all(name.startswith(VARIABLE) for name in moving)
    denominators: set[str] = set()
    constant = True
    try:
        substitution = _Substitution(polynomials)
        for name in moving:
            left_top, left_bottom, right_top, right_bottom = _reduced(substitution.left_with(name))
            if left_top != right_top:
                return Comparison(False, frozenset(), independent)
            constant = constant and len(left_top) <= 1
            if left_bottom != right_bottom:
                denominators.add(name.removeprefix(VARIABLE))
    except _NotComparable:
        return None
    return None if constant else Comparison(True, frozenset(denominators), independent)


def _reduced(polynomials: Sequence[_Coefficients]) -> Iterator[_Coefficients]:
    """Two numerators and denominators in lowest terms, each with 1 as its highest coefficient."""
    for top, bottom in (polynomials[:2], polynomials[2:]):
        shared, rest = top, bottom
        while rest:
            shared, rest = rest, _divided(shared, rest)[1]
        yield _with_leading_one(_divided(top, shared)[0])
        yield _with_leading_one(_divided(bottom, shared)[0])


class _Substitution:
    """Four polynomials, and a number modulo the prime for each of their generators."""

    def __init__(self, polynomials: Sequence[Polynomial]) -> None:
        self._polynomials = polynomials
        self._roots: dict[str, int] = {}  # by a generator, the root of it in which all its powers are whole
        for polynomial in polynomials:
            for monomial in polynomial:
                for name, exponent in monomial:
                    self._roots[name] = math.lcm(self._roots.get(name, 1), exponent.denominator)
        self._bases = {name: _number(name, root) for name, root in self._roots.items()}
        self._powers: dict[tuple[str, int], int] = {}

    def left_with(self, main: str) -> list[_Coefficients]:
        """The polynomials in one of the generators."""
        return [self._in_one(polynomial, main) for polynomial in self._polynomials]

    def _in_one(self, polynomial: Polynomial, main: str) -> _Coefficients:
        found: dict[int, int] = {}
        for monomial, value in polynomial.items():
            coefficient, degree = _modulo(value), 0
            for name, exponent in monomial:
                power = int(exponent * self._roots[name])
                if not 0 <= power <= MAX_REDUCED_DEGREE:
                    raise _NotComparable
                if name == main:
                    degree = power
                else:
                    coefficient = coefficient * self._power(name, power) % _PRIME
            found[degree] = (found.get(degree, 0) + coefficient) % _PRIME
        result = [found.get(degree, 0) for degree in range(max(found) + 1)]
        if not _trimmed(result):
            raise _NotComparable
        return result

    def _power(self, name: str, power: int) -> int:
        if (name, power) not in self._powers:
            self._powers[name, power] = pow(self._bases[name], power, _PRIME)
        return self._powers[name, power]


def _modulo(value: int | Fraction) -> int:
    if value.denominator == 1:
        return value.numerator % _PRIME
    if value.denominator % _PRIME == 0:
        raise _NotComparable
    return value.numerator * pow(value.denominator, -1, _PRIME) % _PRIME


@functools.lru_cache(maxsize=1024)
def _number(name: str, root: int) -> int:
    """What stands for a generator: a number whose power with this exponent is the generator."""
    if name == "i":
        return _square_root(_PRIME - 1)
    if name.startswith("root:"):
        if root != 2:
            raise _NotComparable
        return _square_root(int(name.removeprefix("root:")) % _PRIME)
    return 1 + int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()) % (_PRIME - 1)


def _square_root(value: int) -> int:
    """A square root modulo the prime, by the method of Tonelli and Shanks."""
    if value == 0 or pow(value, (_PRIME - 1) // 2, _PRIME) != 1:
        raise _NotComparable
    root, rest = pow(value, (_ODD_PART + 1) // 2, _PRIME), pow(value, _ODD_PART, _PRIME)
    turn = pow(_NO_SQUARE, _ODD_PART, _PRIME)  # of order 8
    for order in (4, 2):
        if pow(rest, order // 2, _PRIME) != 1:
            root = root * pow(turn, 4 // order, _PRIME) % _PRIME
            rest = rest * pow(turn, 8 // order, _PRIME) % _PRIME
    return root


def _trimmed(coefficients: _Coefficients) -> _Coefficients:
    while coefficients and not coefficients[-1]:
        coefficients.pop()
    return coefficients


def _divided(one: _Coefficients, other: _Coefficients) -> tuple[_Coefficients, _Coefficients]:
    """Quotient and remainder."""
    rest = list(one)
    inverse = pow(other[-1], -1, _PRIME)
    quotient = [0] * max(len(one) - len(other) + 1, 0)
    for place in range(len(quotient) - 1, -1, -1):
        factor = rest[place + len(other) - 1] * inverse % _PRIME
        quotient[place] = factor
        if factor:
            for index, value in enumerate(other):
                rest[place + index] = (rest[place + index] - factor * value) % _PRIME
    return quotient, _trimmed(rest[: len(other) - 1])


def _with_leading_one(coefficients: _Coefficients) -> _Coefficients:
    inverse = pow(coefficients[-1], -1, _PRIME)
    return [value * inverse % _PRIME for value in coefficients]
