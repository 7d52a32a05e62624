r"""Where expressions are compared: points that are the same in every process, and letters that stand for whole numbers.

Variables stand for real numbers. A letter like `n` stands for whole numbers where the answer says so by its form: in a floor, a ceiling,
a factorial or a binomial coefficient, or in an exponent of a negative number, as in `(-1)^n`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from fractions import Fraction

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable

POINTS = 6
FAR_POINTS = 4  # more of them, small and far out, for what changes its rule somewhere, as `|x - 30|`, and for what has few values
_FARTHEST = 10**6
_SIGNS = (  # of variables with an even and an odd number
    (1, 1), (1, 1), (-1, -1), (1, -1), (-1, 1), (1, 1), (1, 1), (-1, 1), (1, -1), (-1, 1),
)  # fmt: skip
_SMALL_POINTS = (6, 7)
_WHOLE_LETTERS = frozenset("njklmMNK")
_OF_WHOLE = frozenset({"floor", "ceiling", "factorial", "binomial"})


def variables(expression: Expression) -> Iterator[str]:
    """Names of the variables, repeated as they occur."""
    match expression:
        case Variable(name):
            yield name
        case Sum(parts) | Product(parts) | Apply(_, parts):
            for part in parts:
                yield from variables(part)
        case Power(base, exponent):
            yield from variables(base)
            yield from variables(exponent)


def point_of(names: list[str], whole: frozenset[str], index: int, far: Fraction) -> dict[str, Fraction]:
    """The values of the variables at one of the fixed points, `far` times as far out at the last ones."""
    size = far if index >= POINTS else Fraction(1)
    return {name: _whole(number, name, index) if name in whole else _real(number, name, index, size) for number, name in enumerate(names)}


def how_far(*expressions: Expression) -> Fraction:
    """How far out the last points lie: beyond the greatest number that is written."""
    return min(Fraction(_FARTHEST), 3 * _largest(*expressions))


def _real(number: int, name: str, point: int, far: Fraction) -> Fraction:
    """A rational that looks random and depends on nothing but the name, the point's number and how far out it is.

    Between 1/3 and 3, a quarter of that at the small points, and `far` times as much at the last ones.
    """
    draw = zlib.crc32(f"{name}/{point}".encode())
    size = Fraction(1, 4) if point in _SMALL_POINTS else far
    return size * _SIGNS[point][number % 2] * (Fraction(1, 3) + Fraction(draw % 999_983, 999_983) * Fraction(8, 3))


def _whole(number: int, name: str, point: int) -> Fraction:
    """A small whole number, even and odd in turn, differently for the first variable and the second."""
    draw = zlib.crc32(f"{name}/{point}".encode())
    return Fraction(2 + 2 * (draw % 6) + (point >> number % 2) % 2)


def _largest(*expressions: Expression) -> Fraction:
    """The largest number that is written in them, and at least 3."""
    found = Fraction(3)
    for expression in expressions:
        match expression:
            case Number(value):
                found = max(found, abs(value))
            case Sum(parts) | Product(parts) | Apply(_, parts):
                found = max(found, _largest(*parts))
            case Power(base, exponent):
                found = max(found, _largest(base, exponent))
    return found


def whole_names(*expressions: Expression) -> frozenset[str]:
    """Letters that stand for whole numbers in one of the expressions, and so in all of them."""
    found = _Whole()
    for expression in expressions:
        found.look(expression)
    return frozenset(found.certain | (found.possible - found.fractional))


def is_whole_letter(name: str) -> bool:
    """Whether a variable's name is one that whole numbers have, with or without a subscript."""
    return name.partition("_")[0] in _WHOLE_LETTERS


class _Whole:
    """Letters by where they stand."""

    def __init__(self) -> None:
        self.certain: set[str] = set()  # in a floor or factorial, or in an exponent of a negative number
        self.possible: set[str] = set()  # in an exponent of something that may be negative
        self.fractional: set[str] = set()  # in an exponent that is no whole number for whole letters, as in `a^{m/n}`

    def look(self, expression: Expression) -> None:
        match expression:
            case Apply(name, parts):
                for part in parts:
                    if name in _OF_WHOLE:
                        self.certain.update(_letters(part))
                    self.look(part)
            case Sum(parts) | Product(parts):
                for part in parts:
                    self.look(part)
            case Power(base, exponent):
                self._look_at_power(base, exponent)

    def _look_at_power(self, base: Expression, exponent: Expression) -> None:
        if not isinstance(exponent, Number):
            letters = _letters(exponent)
            if letters and _looks_negative(base):
                self.certain.update(letters)
            elif letters and not _is_positive(base):
                (self.possible if _is_whole_valued(exponent) else self.fractional).update(letters)
            self.look(exponent)
        self.look(base)


def _letters(expression: Expression) -> set[str]:
    return set(filter(is_whole_letter, variables(expression)))


def _looks_negative(base: Expression) -> bool:
    """Whether it is a negative number or is written with a minus before it."""
    match base:
        case Number(value):
            return value < 0
        case Product(factors):
            return sum(map(_looks_negative, factors)) % 2 == 1
        case Power(inner, Number(power)):
            return power.numerator % 2 == 1 and power.denominator == 1 and _looks_negative(inner)
    return False


def _is_positive(base: Expression) -> bool:
    match base:
        case Number(value):
            return value > 0
        case Constant(name):
            return name in ("e", "pi", "deg")
        case Product(factors):
            return all(map(_is_positive, factors))
        case Power(inner, _):
            return _is_positive(inner)
    return False


def _is_whole_valued(exponent: Expression) -> bool:
    """Whether it is a polynomial with whole coefficients in letters for whole numbers."""
    match exponent:
        case Number(value):
            return value.denominator == 1
        case Variable(name):
            return is_whole_letter(name)
        case Sum(parts) | Product(parts):
            return all(map(_is_whole_valued, parts))
        case Power(base, Number(power)):
            return power.denominator == 1 and power > 0 and _is_whole_valued(base)
    return False


# ---- many cheap points for what is given by pieces ---------------------------------------------------------------------

_WHOLE_LINE = tuple(map(Fraction, (1, 0, 2, -1, 3, 4, -2, *range(5, 13), -3, *range(13, 41), *range(-4, -8, -1))))
_POSITIVE_LINE = tuple(map(Fraction, range(41)))
_NEAR = sorted({Fraction(top, bottom) for bottom in (1, 2, 3, 4, 5) for top in range(-3 * bottom, 3 * bottom + 1)} | set(_WHOLE_LINE))
_MAX_MULTIPLES = 12  # numbers whose multiples are looked at
_MANY = 160  # points at most where there are several variables


def lattice(names: list[str], whole: frozenset[str], *expressions: Expression) -> Iterator[dict[str, Fraction]]:
    """Whole numbers and fractions with small denominators, and small multiples of the written numbers: where floors jump."""
    written = sorted({abs(part) for value in _numbers(*expressions) for part in (value.numerator, value.denominator) if abs(part) > 1})
    multiples = {Fraction(sign * times * value) for value in written[:_MAX_MULTIPLES] for times in (1, 2) for sign in (1, -1)}
    quotients = {Fraction(top, bottom) for top in written[:4] for bottom in written[:4]}
    divisors = set().union(*map(_in_denominators, expressions))
    lines = []
    for name in names:
        if name in whole:
            line = [
                *(_POSITIVE_LINE if name in divisors else _WHOLE_LINE),
                *(v for v in sorted(multiples) if v > 0 or name not in divisors),
            ]
        else:
            line = [*_NEAR, *sorted(multiples | quotients)]
        lines.append(line)
    if len(names) == 1:
        yield from ({names[0]: value} for value in lines[0])
        return
    for index in range(_MANY):
        yield {
            name: line[_draw(name, index, min(12, len(line)) if index % 2 else len(line))] for name, line in zip(names, lines, strict=True)
        }


@functools.lru_cache(maxsize=4096)
def _draw(name: str, index: int, below: int) -> int:
    return zlib.crc32(f"{name}|{index}".encode()) % below


def _numbers(*expressions: Expression) -> Iterator[Fraction]:
    for expression in expressions:
        match expression:
            case Number(value):
                yield value
            case Sum(parts) | Product(parts) | Apply(_, parts):
                yield from _numbers(*parts)
            case Power(base, exponent):
                yield from _numbers(base, exponent)


def _in_denominators(expression: Expression) -> set[str]:
    """Letters by which something is divided: they count, and are not negative."""
    match expression:
        case Sum(parts) | Product(parts) | Apply(_, parts):
            return set().union(*map(_in_denominators, parts))
        case Power(base, Number(power)) if power < 0:
            return set(variables(base))
        case Power(base, exponent):
            return _in_denominators(base) | _in_denominators(exponent)
    return set()
