r"""Equations of which one holds: `y = \pm\frac34 x` as two lines, `|x| = |y|`, `ab = 0`."""

from __future__ import annotations

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Apply, Collection, Expression, Form, Number, Power, Product, Relation, Value
from reward_service.scoring.equivalence.multiples import Equal, is_short
from reward_service.scoring.equivalence.relations import same_relations

_MAX_ALTERNATIVES = 4


def same_alternatives(gold: Form, answer: Form, equal: Equal) -> bool:
    r"""Whether two forms are the same curves, several of them, written with `\pm`, as a list, with absolute values or as a product.

    What is an equation of one name is none: `x = \pm 2` is two numbers, and `x^2 = 4` is to be solved.
    """
    other = _alternatives(answer)
    if not other:
        return False
    one = _alternatives(gold) or _squares(gold)
    if not all(map(_is_curve, one)):
        return False
    one = one or _factors(gold, answer)
    if not one or len(one) != len(other) or not all(map(is_short, (*one, *other))):
        return False
    rest = list(other)
    for relation in one:
        place = next((index for index, candidate in enumerate(rest) if same_relations(relation, candidate, equal)[0]), None)
        if place is None:
            return False
        del rest[place]
    return True


def _alternatives(form: Form) -> tuple[Relation, ...]:
    """The equations of which the form says that one holds; none where it does not."""
    match form:
        case Relation((left, right), ("=",)):
            one, other = _absolute_value(left), _absolute_value(right)
            if one is not None and other is not None:
                return _both_signs(one, other)
            lists = [isinstance(side, Collection) and side.kind == "list" for side in (left, right)]
            if lists == [True, False] and isinstance(left, Collection):
                return _equations([(item, right) for item in left.items])
            if lists == [False, True] and isinstance(right, Collection):
                return _equations([(left, item) for item in right.items])
        case Collection("list" | "or" | "either", items):
            return _equations([item.sides for item in items if isinstance(item, Relation) and item.operators == ("=",)], len(items))
    return ()


def _equations(pairs: list[tuple[Form, ...]], needed: int = 0) -> tuple[Relation, ...]:
    plain = all(isinstance(side, Value) and not side.unit for pair in pairs for side in pair)
    if not plain or not 1 < len(pairs) <= _MAX_ALTERNATIVES or (needed and len(pairs) != needed):
        return ()
    return tuple(Relation(pair, ("=",)) for pair in pairs)


def _squares(gold: Form) -> tuple[Relation, ...]:
    """What a reference like `x^2 = y^2` says of the roots."""
    match gold:
        case Relation((Value(Power(one, Number(power)), ""), Value(Power(other, Number(same)), "")), ("=",)) if power == same == 2:
            return _both_signs(one, other)
    return ()


def _factors(gold: Form, answer: Form) -> tuple[Relation, ...]:
    """What a reference like `ab = 0` says of its factors, beside an answer that says `or` of several names."""
    match gold, answer:
        case Relation((Value(Product(factors), ""), Value(Number(zero), "")), ("=",)), Collection("either") if zero == 0:
            bases = [factor.base if isinstance(factor, Power) and isinstance(factor.exponent, Number) else factor for factor in factors]
            positive = all(not isinstance(factor, Power) or _is_positive(factor.exponent) for factor in factors)
            names = [set(numeric.variables(base)) for base in bases]
            if positive and all(names):
                return _equations([(Value(base), Value(Number(zero))) for base in bases])
    return ()


def _is_positive(exponent: Expression) -> bool:
    return isinstance(exponent, Number) and exponent.value > 0


def _is_curve(relation: Relation) -> bool:
    names = {name for side in relation.sides if isinstance(side, Value) for name in numeric.variables(side.expression)}
    return len(names) > 1


def _absolute_value(form: Form) -> Expression | None:
    match form:
        case Value(Apply("abs", (inner,)), ""):
            return inner
    return None


def _both_signs(one: Expression, other: Expression) -> tuple[Relation, ...]:
    return tuple(Relation((Value(one), Value(side)), ("=",)) for side in (other, Product((MINUS_ONE, other))))
