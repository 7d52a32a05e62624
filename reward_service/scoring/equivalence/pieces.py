r"""Points at which expressions that are given by pieces may differ, though a few fixed points say that they are equal.

`x^2 - 7x + 12` and its absolute value differ between 3 and 4 only, `\lceil x\rceil` and `\lfloor x\rfloor + 1` at whole numbers only.
So both are compared in doubles at many points: on a lattice where something is rounded, and on both sides of every place where what
stands in an absolute value or under an even root changes its sign. What looks different there is looked at with all digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from reward_service.scoring.equivalence.doubles import real_double
from reward_service.scoring.equivalence.forms import Apply, Expression, Number, Power, Product, Sum
from reward_service.scoring.equivalence.sampling import how_far, lattice, point_of

_CHOOSING = frozenset({"max", "min"})
_JUMPING = frozenset({"floor", "ceiling"})
_PIECEWISE = frozenset({"abs", "sgn"}) | _CHOOSING | _JUMPING
_WORK = 16_000  # parts of expressions that are evaluated in one comparison
_FEW = 20  # points of the lattice where nothing is rounded, as for `(-1)^n`
_MAX_SUSPECTS = 6
_MAX_SWITCHES = 8  # expressions whose changes of sign are looked for
_MAX_PLACES = 30  # where one of them changes it
_MAX_LINES = 3  # variables along which they are looked for
_BISECTIONS, _NARROWINGS = 30, 24
_DIFFERENT = 1e-7
_TINY = 1e-9
_GOLDEN = (math.sqrt(5) - 1) / 2
_OUTWARD = (1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.1, *[step / 4 for step in range(1, 17)],
    *[step / 2 for step in range(9, 25)], *map(float, (
    14, 17, 20, 25, 30, 40, 50, 65, 80, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000,
)))  # fmt: skip
_LINE = (*[-value for value in reversed(_OUTWARD)], 0.0, *_OUTWARD)


def has_pieces(expression: Expression) -> bool:
    """Whether it may be given by different rules on both sides of some value."""
    match expression:
        case Apply(name, parts):
            return name in _PIECEWISE or any(map(has_pieces, parts))
        case Sum(parts) | Product(parts):
            return any(map(has_pieces, parts))
        case Power(base, exponent):
            return (isinstance(exponent, Number) and exponent.value.denominator > 1) or has_pieces(base) or has_pieces(exponent)
    return False


def suspects(one: Expression, other: Expression, names: list[str], whole: frozenset[str]) -> Iterator[tuple[dict[str, Fraction], bool]]:
    """Points where the two seem to differ, a few at most, and whether by their domain: only one has a value there, and that counts."""
    search = _Search(one, other)
    found = 0
    for point in search.points(names, whole):
        differ, by_domain = search.differ(point)
        if differ:
            yield point, by_domain
            found += 1
        if found >= _MAX_SUSPECTS or search.exhausted():
            return


def size(expression: Expression) -> int:
    """How many parts it has."""
    match expression:
        case Apply(_, parts) | Sum(parts) | Product(parts):
            return 1 + sum(map(size, parts))
        case Power(base, exponent):
            return 1 + size(base) + size(exponent)
    return 1


class _Search:
    """Both expressions and the work that is left."""

    def __init__(self, one: Expression, other: Expression) -> None:
        self._one, self._other = one, other
        self._size = size(one) + size(other)
        self._left = _WORK
        self._kept = 0  # of it, for what comes later
        self._rooted = [_has_magnitude_under_root(side) for side in (one, other)]

    def exhausted(self) -> bool:
        """Whether enough was done."""
        return self._left <= 0

    def differ(self, point: dict[str, Fraction]) -> tuple[bool, bool]:
        """Whether doubles differ at a point, and whether by having a value."""
        self._left -= self._size + 2 * len(point)
        at = {name: float(value) for name, value in point.items()}
        left, right = real_double(self._one, at), real_double(self._other, at)
        if math.isnan(left) or math.isnan(right):
            return self._differ_in_domain(left, right), True
        return abs(left - right) > _DIFFERENT * max(abs(left), abs(right), _TINY), False

    def _differ_in_domain(self, left: float, right: float) -> bool:
        r"""Whether only the one has a value whose roots are of magnitudes: `\sqrt{|x|}` is made to differ from `\sqrt x`."""
        has = [not math.isnan(value) for value in (left, right)]
        return has[0] != has[1] and self._rooted == has

    def points(self, names: list[str], whole: frozenset[str]) -> Iterator[dict[str, Fraction]]:
        """All points that are worth a look, in the order of their worth."""
        parts = list(_switches(self._one)) + list(_switches(self._other))
        jumps = any(isinstance(part, Apply) and part.name in _JUMPING for part in parts)
        if jumps or whole:
            yield from itertools.islice(lattice(names, whole, self._one, self._other), None if jumps else _FEW)
        if not (has_pieces(self._one) or has_pieces(self._other)):
            return
        inner = list(dict.fromkeys(part for part in parts if not (isinstance(part, Apply) and part.name in _JUMPING)))[:_MAX_SWITCHES]
        others = point_of(names, whole, 0, how_far(self._one, self._other))
        real = [name for name in names if name not in whole][:_MAX_LINES]
        self._kept = _WORK // 3
        for part in inner if len(real) > 1 else ():
            yield from self._descent(part, real, dict(others))
        self._kept = 0
        for name in real:
            places: set[float] = set()
            for part in inner:
                places.update(self._changes(part, name, others)[0])
            for value in (*_around(sorted(places)), *_LINE):
                yield others | {name: Fraction(value)}

    def _descent(self, part: Expression, names: list[str], at: dict[str, Fraction]) -> Iterator[dict[str, Fraction]]:
        """Points around changes of sign along lines that lead, one variable after the other, to where the part is nearest to zero."""
        for name in names * 2:
            places, nearest = self._changes(part, name, at)
            for value in _around(sorted(places)):
                yield at | {name: Fraction(value)}
            at[name] = Fraction(nearest)

    def _changes(self, part: Expression, name: str, others: dict[str, Fraction]) -> tuple[list[float], float]:
        """Where the part changes its sign along a line, or touches zero; and where it is nearest to it."""
        at = {other: float(value) for other, value in others.items()}
        cost = size(part)

        def value_at(place: float) -> float:
            self._left -= cost
            at[name] = place
            return real_double(part, at)

        found: list[float] = []
        if self._left - self._kept < cost * len(_LINE):
            return found, 0.0
        values = [value_at(place) for place in _LINE]
        for index in range(1, len(_LINE)):
            if len(found) >= _MAX_PLACES or self.exhausted():
                break
            before, here = values[index - 1], values[index]
            if before * here < 0:
                found.append(_bisected(value_at, _LINE[index - 1], _LINE[index]))
            elif here == 0:
                found.append(_LINE[index])
            elif (
                index + 1 < len(_LINE)
                and before * here > 0
                and here * values[index + 1] > 0
                and abs(here) < min(abs(before), abs(values[index + 1]))
            ):
                found.extend(_dip(value_at, _LINE[index - 1], _LINE[index + 1], math.copysign(1.0, here)))
        nearest = min(range(len(_LINE)), key=lambda index: math.inf if math.isnan(values[index]) else abs(values[index]))
        return found, _LINE[nearest]


def _bisected(value_at: Callable[[float], float], low: float, high: float) -> float:
    sign = value_at(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if value_at(middle) * sign > 0:
            low = middle
        else:
            high = middle
    return high


def _dip(value_at: Callable[[float], float], low: float, high: float, sign: float) -> list[float]:
    """Where a function that comes near to zero between two places crosses it there, or touches it."""
    start, end = low, high
    best = math.inf
    for _ in range(_NARROWINGS):
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        one, other = sign * value_at(first), sign * value_at(second)
        for place, value in ((first, one), (second, other)):
            if value < 0:
                return [_bisected(value_at, start, place), _bisected(value_at, end, place)]
            best = min(best, value)
        if one < other:
            high = second
        else:
            low = first
    return [(low + high) / 2] if best < _TINY else []


def _around(places: list[float]) -> Iterator[float]:
    """Between places next to one another, and close to each."""
    for one, other in itertools.pairwise(places):
        yield (one + other) / 2
    for place in places:
        step = 1e-3 * (1 + abs(place))
        yield from (place - step, place + step)


def _switches(expression: Expression) -> Iterator[Expression]:
    """What decides by its sign which rule holds; floors and ceilings themselves."""
    match expression:
        case Apply(name, parts):
            if name in _JUMPING:
                yield expression
            elif name in _PIECEWISE - _CHOOSING:
                yield from _signed_parts(parts[0])
            elif name in _CHOOSING:
                for one, other in itertools.pairwise(parts):
                    yield Sum((one, Product((Number(Fraction(-1)), other))))
            for part in parts:
                yield from _switches(part)
        case Sum(parts) | Product(parts):
            for part in parts:
                yield from _switches(part)
        case Power(base, exponent):
            if isinstance(exponent, Number) and exponent.value.denominator % 2 == 0:
                yield from _signed_parts(base)
            yield from _switches(base)
            yield from _switches(exponent)


def _signed_parts(expression: Expression) -> Iterator[Expression]:
    """The factors whose signs make up the sign of a product, or of its square."""
    match expression:
        case Product(factors):
            for factor in factors:
                yield from _signed_parts(factor)
        case Power(base, Number(_)):
            yield from _signed_parts(base)
        case Apply("abs", (inner,)):
            yield from _signed_parts(inner)
        case Sum() | Apply() | Power():
            yield expression
        case _:
            return


def _has_magnitude_under_root(expression: Expression) -> bool:
    match expression:
        case Apply(_, parts) | Sum(parts) | Product(parts):
            return any(map(_has_magnitude_under_root, parts))
        case Power(base, exponent):
            even = isinstance(exponent, Number) and exponent.value.denominator % 2 == 0
            return (even and _has_magnitude(base)) or _has_magnitude_under_root(base) or _has_magnitude_under_root(exponent)
    return False


def _has_magnitude(expression: Expression) -> bool:
    match expression:
        case Apply(name, parts):
            return name == "abs" or any(map(_has_magnitude, parts))
        case Sum(parts) | Product(parts):
            return any(map(_has_magnitude, parts))
        case Power(base, exponent):
            return _has_magnitude(base) or _has_magnitude(exponent)
    return False
