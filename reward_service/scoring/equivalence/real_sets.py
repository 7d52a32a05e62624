r"""Sets of real numbers as unions of intervals: `(1, 2] \cup \{5\}`, `|x| < 3`, `\mathbb{R} \setminus [0, 1]`, `x < 1 or x > 2`.

Two such sets are equal exactly when the fewest intervals that make them up are. Ends are compared as expressions are; their order,
which decides what overlaps, is that of their values to forty digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.coefficients import linear, quadratic
from reward_service.scoring.equivalence.equality import same_expressions
from reward_service.scoring.equivalence.expressions import HALF, MINUS_ONE
from reward_service.scoring.equivalence.forms import (
    Apply,
    Based,
    Collection,
    Expression,
    Form,
    Interval,
    Matrix,
    Named,
    Number,
    Power,
    Product,
    Relation,
    SetOperation,
    Sum,
    Value,
    Variable,
    Words,
)
from reward_service.scoring.equivalence.ranges import INFINITY, MINUS_INFINITY, range_of

_MAX_PIECES = 200
_MAX_JOINED = 12  # of which each is looked at whether it matters
_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
_INEQUALITIES = frozenset({"<", "<=", ">", ">=", "!="})


_TOLERANCE = Fraction(1, 10**numeric.AGREEING_DIGITS)
_Rational = Fraction | float  # a float is an infinity


class _NotReal(Exception):
    """It is no set of real numbers that can be told from its form."""


@dataclass(frozen=True, slots=True)
class _End:
    """An end of an interval: its value to sixty digits, for the order, and its expression."""

    value: _Rational
    expression: Expression


@dataclass(frozen=True, slots=True)
class _Piece:
    """An interval that holds something; a point is closed at both ends."""

    low: _End
    high: _End
    low_closed: bool
    high_closed: bool


_Set = tuple[_Piece, ...]


def same_real_sets(gold: Form, answer: Form) -> bool | None:
    """Whether two forms are the same set of real numbers; None where one of them is not plainly one.

    A pair in brackets counts as an interval, and a list as the union of its items, only beside a form that can be nothing else.
    """
    if not (_is_definite(gold) or _is_definite(answer)):
        return None
    names: list[str] = []
    try:
        # Who answers has to have solved it: a quadratic inequality is read for the reference alone.
        one = _Reader(names, solves=True).read(gold)
        gold_names = tuple(names)
        other = _Reader(names).read(answer)
    except _NotReal:
        return None
    if len(set(names)) > 1:
        return None if len(set(gold_names)) > 1 else False
    return len(one) == len(other) and all(map(_same_piece, one, other))


_PLAIN = frozenset({Value, Words, Based, Matrix})


def _is_definite(form: Form) -> bool:
    if type(form) in _PLAIN:
        return False
    match form:
        case Interval() | SetOperation():
            return True
        case Named(name):
            return name == "R"
        case Relation(_, operators):
            return any(operator in _INEQUALITIES for operator in operators)
        case Collection("list" | "and" | "or", items):
            return any(isinstance(item, Relation | Interval) and _is_definite(item) for item in items)
    return False


def _same_piece(one: _Piece, other: _Piece) -> bool:
    closed = (one.low_closed, one.high_closed) == (other.low_closed, other.high_closed)
    return closed and _same_end(one.low, other.low) and _same_end(one.high, other.high)


def _same_end(one: _End, other: _End) -> bool:
    return _close(one.value, other.value) and same_expressions(one.expression, other.expression).equal


def _close(one: _Rational, other: _Rational) -> bool:
    if one == other or isinstance(one, float) or isinstance(other, float):
        return one == other
    return abs(one - other) <= max(abs(one), abs(other)) * _TOLERANCE


def _less(one: _Rational, other: _Rational) -> bool:
    return one < other and not _close(one, other)


class _Reader:
    """Reads one form; the names of the variables it speaks of are added to a list that both sides share."""

    def __init__(self, names: list[str], solves: bool = False) -> None:
        self._names = names
        self._solves = solves

    def read(self, form: Form) -> _Set:
        """The set.

        Raises:
            _NotReal: it is none.
        """
        match form:
            case Interval(low, high, (low_closed, high_closed)):
                return _interval(low, high, low_closed, high_closed)
            case Named("R"):
                return _line()
            case Named("emptyset"):
                return ()
            case Value(expression, "", _):
                return _point(expression)
            case SetOperation(operator, parts):
                return self._operation(operator, parts)
            case Collection(kind, items):
                return self._collection(kind, items)
            case Relation():
                return self._relation(form)
        raise _NotReal

    def _operation(self, operator: str, parts: Sequence[Form]) -> _Set:
        sets = [self.read(part) for part in parts]
        if operator == "\\cup":
            return _needed(sets, _union_of)
        if operator == "\\cap":
            return _needed(sets, _intersection)
        return _intersection([sets[0], *map(_complement, sets[1:])])

    def _collection(self, kind: str, items: Sequence[Form]) -> _Set:
        if kind in ("tuple", "bracket"):
            match items:
                case [Value(low, ""), Value(high, "")]:
                    return _interval(low, high, kind == "bracket", kind == "bracket")
            raise _NotReal
        if kind == "set":
            if not all(isinstance(item, Value) for item in items):
                raise _NotReal
            return _union([piece for item in items for piece in self.read(item)])
        if kind not in ("list", "and", "or"):
            raise _NotReal
        kept = [item for item in items if not _says_real(item)] or list(items)
        if any(isinstance(item, Collection) and item.kind in ("tuple", "bracket") for item in kept) and not any(map(_is_infinite, kept)):
            raise _NotReal  # `(1, 2), (3, 4)` are points, for all that is known
        if not all(isinstance(item, Value) for item in kept) and any(isinstance(item, Value) for item in kept):
            raise _NotReal  # a number beside an inequality is another answer
        sets = [self.read(item) for item in kept]
        excluding = [isinstance(item, Relation) and item.operators == ("!=",) for item in kept]
        if kind == "or" and all(excluding):
            raise _NotReal  # taken literally it says nothing
        if kind == "and" or all(excluding):
            return _needed(sets, _intersection)
        if any(excluding):
            chosen = [found for found, excludes in zip(sets, excluding, strict=True) if not excludes]
            rest = [found for found, excludes in zip(sets, excluding, strict=True) if excludes]
            return _intersection([_needed(chosen, _union_of), *rest])
        whole = _union_of(sets)
        # `x > 1, x < 3` is meant as both: either would say nothing.
        both = kind == "list" and whole == _line() and all(isinstance(item, Relation) for item in kept)
        return _needed(sets, _intersection if both else _union_of)

    def _relation(self, relation: Relation) -> _Set:
        found = range_of(relation)
        if found is not None:
            self._names.append(found[0])
            return self.read(found[1])
        match relation.sides, relation.operators:
            case (Value(Variable(name), ""), other), ("in",):
                self._names.append(name)
                return self.read(other)
            case (Value(Variable(name), ""), Value(value, "")), ("=" | "!=" as operator,):
                self._names.append(name)
                return _point(value) if operator == "=" else _complement(_point(value))
            case (Value(Variable(name), ""), Collection("list", items)), ("=" | "!=" as operator,):
                self._names.append(name)
                points = _union([piece for item in items for piece in self.read(item)])
                return points if operator == "=" else _complement(points)
            case (Value(left, ""), Value(right, "")), (operator,) if operator in _FLIPPED:
                return self._solved(left, operator, right)
        raise _NotReal

    def _solved(self, left: Expression, operator: str, right: Expression) -> _Set:
        """`|2x - 1| < 3` and `2x - 1 < 3`."""
        squared = quadratic(Sum((left, Product((MINUS_ONE, right))))) if self._solves else None
        if squared is not None:
            self._names.append(squared[0])
            return _solved_quadratic(*squared[1:], operator)
        if isinstance(right, Apply) or not numeric.is_constant(right):
            left, operator, right = right, _FLIPPED[operator], left
        if not numeric.is_constant(right):
            raise _NotReal
        inner = left.arguments[0] if isinstance(left, Apply) and left.name == "abs" else left
        line = linear(inner)
        if line is None:
            raise _NotReal
        name, slope, offset = line
        self._names.append(name)

        def solution(bound: Expression) -> Expression:
            return Product((Sum((bound, Number(-offset))), Number(1 / slope)))

        closed = operator.endswith("=")
        high = solution(right)
        if inner is left:
            below = operator.startswith("<") == (slope > 0)
            return _interval(MINUS_INFINITY, high, False, closed) if below else _interval(high, INFINITY, closed, False)
        low = solution(Product((MINUS_ONE, right)))
        if slope < 0:
            low, high = high, low
        if operator.startswith("<"):
            return _interval(low, high, closed, closed)
        if _less(_end(high).value, _end(low).value):
            return _line()
        return _union([*_interval(MINUS_INFINITY, low, False, closed), *_interval(high, INFINITY, closed, False)])


def _solved_quadratic(a: Fraction, b: Fraction, c: Fraction, operator: str) -> _Set:
    """Where `ax^2 + bx + c` stands in this relation to 0."""
    middle, square = -b / (2 * a), (b * b - 4 * a * c) / (4 * a * a)
    between = operator.startswith("<") == (a > 0)
    closed = operator.endswith("=")
    if square < 0:
        return () if between else _line()
    root = _square_root(square)
    ends = [
        Sum((Number(middle), root)) if not isinstance(root, Number) else Number(middle + root.value) for root in (_negative(root), root)
    ]
    if square == 0:
        inside = _point(ends[0]) if closed else ()
        return inside if between else _line() if closed else _complement(_point(ends[0]))
    if between:
        return _interval(ends[0], ends[1], closed, closed)
    return _union([*_interval(MINUS_INFINITY, ends[0], False, closed), *_interval(ends[1], INFINITY, closed, False)])


def _square_root(value: Fraction) -> Expression:
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    exact_root = top * top == value.numerator and bottom * bottom == value.denominator
    return Number(Fraction(top, bottom)) if exact_root else Power(Number(value), HALF)


def _negative(value: Expression) -> Expression:
    return Number(-value.value) if isinstance(value, Number) else Product((MINUS_ONE, value))


def _is_infinite(form: Form) -> bool:
    """Whether it is a pair of which an end is infinite."""
    ends = [item.expression for item in form.items if isinstance(item, Value)] if isinstance(form, Collection) else []
    return INFINITY in ends or MINUS_INFINITY in ends


def _says_real(form: Form) -> bool:
    return isinstance(form, Relation) and form.operators == ("in",) and form.sides[1] == Named("R")


def _end(expression: Expression) -> _End:
    if type(expression) is Number:
        return _End(expression.value, expression)
    value = numeric.real_fraction(expression)
    if value is None:
        raise _NotReal
    return _End(value, expression)


def _line() -> _Set:
    return (_Piece(_end(MINUS_INFINITY), _end(INFINITY), False, False),)


def _point(expression: Expression) -> _Set:
    end = _end(expression)
    if abs(end.value) == numeric.INFINITE:
        raise _NotReal
    return (_Piece(end, end, True, True),)


def _interval(low_tree: Expression, high_tree: Expression, low_closed: bool, high_closed: bool) -> _Set:
    low, high = _end(low_tree), _end(high_tree)
    if (low_closed and low.value == -numeric.INFINITE) or (high_closed and high.value == numeric.INFINITE):
        raise _NotReal
    if _less(low.value, high.value):
        return (_Piece(low, high, low_closed, high_closed),)
    if _close(low.value, high.value) and low_closed and high_closed:
        return (_Piece(low, low, True, True),)
    raise _NotReal  # `(5, 2)` is a pair, if anything


def _union(pieces: Sequence[_Piece]) -> _Set:
    if len(pieces) > _MAX_PIECES:
        raise _NotReal
    merged: list[_Piece] = []
    for piece in sorted(pieces, key=lambda each: (each.low.value, not each.low_closed)):
        if merged and _touch(merged[-1], piece):
            merged[-1] = _joined(merged[-1], piece)
        else:
            merged.append(piece)
    return tuple(merged)


def _union_of(sets: Sequence[_Set]) -> _Set:
    return _union([piece for found in sets for piece in found])


def _needed(sets: Sequence[_Set], joined: Callable[[Sequence[_Set]], _Set]) -> _Set:
    """The sets joined, where each of them matters: `x > 3 or x > 4` hedges, whichever is right."""
    whole = joined(sets)
    if 1 < len(sets) <= _MAX_JOINED:
        for index in range(len(sets)):
            rest = [*sets[:index], *sets[index + 1 :]]
            if (rest[0] if len(rest) == 1 else joined(rest)) == whole:
                raise _NotReal
    return whole


def _touch(before: _Piece, after: _Piece) -> bool:
    if _close(before.high.value, after.low.value):
        return before.high_closed or after.low_closed
    return after.low.value < before.high.value


def _joined(before: _Piece, after: _Piece) -> _Piece:
    low_closed = before.low_closed or (after.low_closed and _close(before.low.value, after.low.value))
    if _close(before.high.value, after.high.value):
        return _Piece(before.low, before.high, low_closed, before.high_closed or after.high_closed)
    longer = after if before.high.value < after.high.value else before
    return _Piece(before.low, longer.high, low_closed, longer.high_closed)


def _complement(pieces: _Set) -> _Set:
    (line,) = _line()
    gaps: list[_Piece] = []
    low, closed = line.low, False
    for piece in pieces:
        _add_gap(gaps, low, piece.low, closed, not piece.low_closed)
        low, closed = piece.high, not piece.high_closed
    _add_gap(gaps, low, line.high, closed, False)
    return tuple(gaps)


def _add_gap(gaps: list[_Piece], low: _End, high: _End, low_closed: bool, high_closed: bool) -> None:
    infinite = abs(low.value) == numeric.INFINITE, abs(high.value) == numeric.INFINITE
    low_closed, high_closed = low_closed and not infinite[0], high_closed and not infinite[1]
    if _less(low.value, high.value) or (_close(low.value, high.value) and low_closed and high_closed):
        gaps.append(_Piece(low, high, low_closed, high_closed))


def _intersection(sets: Sequence[_Set]) -> _Set:
    return _complement(_union([piece for found in sets for piece in _complement(found)]))
