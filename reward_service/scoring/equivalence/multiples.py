r"""Equations and inequalities of which one is a multiple of the other: `2y = 4x`, `\sqrt{3}y = \sqrt{3}x`, `xy = 4` and `y = \frac4x`.

A constant factor says nothing, but for the sign of an inequality's. A factor with variables is harmless where it only clears
denominators: a curve loses or gains no more than points that divide by zero. It is not where a formula was to be solved: `PV = nRT`
accepts `P = \frac{nRT}{V}`, which does not accept `PV = nRT`, while the curve `y = \frac4x` does accept `xy = 4`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fractions import Fraction

from reward_service.scoring.equivalence import exact, numeric, quick
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Apply, Expression, Form, Number, Power, Product, Relation, Sum, Value, Variable
from reward_service.scoring.equivalence.limits import MAX_MULTIPLE_PARTS
from reward_service.scoring.equivalence.lowest_terms import compare_zeros
from reward_service.scoring.equivalence.renaming import at_point
from reward_service.scoring.equivalence.short_words import is_short_word

Equal = Callable[[Form, Form], bool]
FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
_EITHER_SIGN = ("=", "!=")
_COORDINATES = frozenset(("x", "y", "z", "r", "theta"))
_FUNCTIONS, _ARGUMENTS = frozenset("fgh"), frozenset("xyzstn")
_MAX_CHAIN = 5
_ZERO = Number(Fraction(0))
_SMALLEST = Fraction(1, 10**30)
_POINTS = 4  # at which a value is looked for


def same_multiples(gold: Relation, answer: Relation, equal: Equal, calls: bool) -> bool:
    """One side brought over: a multiple for an equation, a positive one for an inequality. `calls`: a side is `f(x)` and no product."""
    if gold.operators == answer.operators and set(gold.operators) == {"="} and 1 < len(gold.operators) < _MAX_CHAIN:
        if not all(map(is_short, (gold, answer))):
            return False
        pairs = zip(_from_the_first(gold), _from_the_first(answer), strict=True)
        return all(same_multiples(one_pair, other_pair, equal, calls) for one_pair, other_pair in pairs)
    if len(gold.operators) != 1 or len(answer.operators) != 1:
        return False
    if any(map(is_short_word, gold.sides)) and any(map(is_short_word, answer.sides)):
        return False  # algebra would not see the order of their letters
    gold, answer = _upwards(gold), _upwards(answer)
    operator = gold.operators[0]
    if operator != answer.operators[0] or operator not in ("=", "<", "<=", "!="):
        return False
    one, other = _difference(gold), _difference(answer)
    if one is None or other is None or exact.rational(one) is not None or exact.rational(other) is not None:
        return False  # an equation that is always true, or never, says nothing
    factor = exact.proportional(one, other)
    if factor is not None:
        return factor != 0 and (factor > 0 or operator in _EITHER_SIGN)
    if operator == "=" and _says_a_number(gold):
        return _same_to_the_sign(one, other, operator, equal)  # what is left to be solved is no answer
    found = compare_zeros(one, other)
    if found is not None and found.proportional and all(map(_is_not_zero, (one, other))):
        if found.denominators:
            return operator == "=" and not calls and _only_clears(gold, answer, found.denominators)
        return operator in _EITHER_SIGN or _ratio(one, other) > 0
    if found is not None and found.independent:
        return False
    return _same_to_the_sign(one, other, operator, equal) or _same_by_numbers(one, other, operator)


def _from_the_first(chain: Relation) -> list[Relation]:
    r"""`\frac x2 = \frac y3 = z` as what its first side is equal to."""
    return [Relation((chain.sides[0], side), ("=",)) for side in chain.sides[1:]]


def _same_to_the_sign(one: Expression, other: Expression, operator: str, equal: Equal) -> bool:
    negative = Product((MINUS_ONE, other))
    return equal(Value(one), Value(other)) or (operator in _EITHER_SIGN and equal(Value(one), Value(negative)))


def _upwards(relation: Relation) -> Relation:
    if relation.operators[0] in (">", ">="):
        return Relation(relation.sides[::-1], (FLIPPED[relation.operators[0]],))
    return relation


def _difference(relation: Relation) -> Expression | None:
    left, right = relation.sides
    if not isinstance(left, Value) or not isinstance(right, Value):
        return None
    return Sum((right.expression, Product((MINUS_ONE, left.expression))))


def _says_a_number(relation: Relation) -> bool:
    """Whether it says what number a name is: `x = 5`, `5 = x`."""
    sides = [side.expression for side in relation.sides if isinstance(side, Value)]
    return any(isinstance(side, Variable) for side in sides) and any(map(numeric.is_constant, sides))


def _solved_for(relation: Relation) -> str:
    """The name of which an equation says what it is; "" where it does not."""
    name, value = relation.sides
    if isinstance(name, Value) and isinstance(value, Value) and isinstance(name.expression, Variable):
        return "" if name.expression.name in numeric.variables(value.expression) else name.expression.name
    return ""


def _only_clears(gold: Relation, answer: Relation, denominators: frozenset[str]) -> bool:
    """Whether the denominators of two equations with the same numerator may be left out of account."""
    expressions = [side.expression for relation in (gold, answer) for side in relation.sides if isinstance(side, Value)]
    if any(map(_may_hold_no_product, expressions)):
        return False
    used = {name for expression in expressions for name in numeric.variables(expression)}
    solved = _solved_for(gold)
    return not solved or used <= _COORDINATES or (solved in _COORDINATES and denominators <= _COORDINATES)


def _may_hold_no_product(expression: Expression) -> bool:
    r"""Whether letters may be called, or those of a derivative: `f(x)`, `\frac{dy}{dx}`."""
    match expression:
        case Product(factors):
            return any(map(_calls_or_derives, factors, factors[1:])) or any(map(_may_hold_no_product, factors))
        case Sum(parts) | Apply(_, parts):
            return any(map(_may_hold_no_product, parts))
        case Power(base, exponent):
            return _may_hold_no_product(base) or _may_hold_no_product(exponent)
    return False


def _calls_or_derives(first: Expression, second: Expression) -> bool:
    if not isinstance(first, Variable) or not isinstance(second, Variable):
        return False
    return first.name == "d" or (first.name in _FUNCTIONS and second.name in _ARGUMENTS)


def _is_not_zero(expression: Expression) -> bool:
    return numeric.compare(expression, _ZERO)[0] is numeric.Evidence.REFUTED


# ---- by numbers ------------------------------------------------------------------------------------------------------


def _same_by_numbers(one: Expression, other: Expression, operator: str) -> bool:
    """Whether the quotient of both is the same everywhere, as far as numbers show: `y = \\sin 2x`, `\\frac y2 = \\sin x \\cos x`."""
    names = sorted(set(numeric.variables(one)))
    if (
        names != sorted(set(numeric.variables(other)))
        or _number_of_parts(one) > MAX_MULTIPLE_PARTS
        or _number_of_parts(other) > MAX_MULTIPLE_PARTS
    ):
        return False
    found = _values(one, other, names)
    if found is None:
        return False
    point, left, right = found
    if operator not in _EITHER_SIGN and (left > 0) != (right > 0):
        return False
    if quick.certainly_different(Product((one, Number(right))), Product((other, Number(left))))[0]:
        return False
    crossed = Product((one, at_point(other, point))), Product((other, at_point(one, point)))
    return numeric.compare(*crossed)[0] is numeric.Evidence.AGREES


def _ratio(one: Expression, other: Expression) -> Fraction:
    """The quotient of two that differ by a constant factor; 0 where no value was found."""
    found = _values(one, other, sorted(set(numeric.variables(one))))
    return found[1] / found[2] if found is not None else Fraction(0)


def _values(one: Expression, other: Expression, names: list[str]) -> tuple[dict[str, Fraction], Fraction, Fraction] | None:
    """A point, and values there that are not 0."""
    for index in range(_POINTS):
        point = {name: Fraction(1 + zlib.crc32(f"{name}/{index}".encode()) % 97, 41) for name in names}
        left, right = (numeric.real_fraction(at_point(side, point)) for side in (one, other))
        if isinstance(left, Fraction) and isinstance(right, Fraction) and min(abs(left), abs(right)) > _SMALLEST:
            return point, left, right
    return None


def is_short(relation: Relation) -> bool:
    """Whether it may be looked at several times: plain sides with a bounded number of parts."""
    sides = [side.expression for side in relation.sides if isinstance(side, Value)]
    return len(sides) == len(relation.sides) and sum(map(_number_of_parts, sides)) <= MAX_MULTIPLE_PARTS


def _number_of_parts(expression: Expression) -> int:
    """How many numbers, names and operations it is made of."""
    match expression:
        case Apply(_, parts) | Sum(parts) | Product(parts):
            return 1 + sum(map(_number_of_parts, parts))
        case Power(base, exponent):
            return 1 + _number_of_parts(base) + _number_of_parts(exponent)
    return 1
