"""Are two tuples, lists, sets or ratios equal? Their items are compared by whoever calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reward_service.scoring.equivalence import exact, numeric
from reward_service.scoring.equivalence.conventions import in_force
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Collection, Expression, Form, Named, Power, Product, SetOperation, Value, render
from reward_service.scoring.equivalence.piecewise import same_pieces
from reward_service.scoring.equivalence.ranges import has_constant_ends, range_of

Equal = Callable[[Form, Form], bool]


def same_collections(gold: Collection, answer: Collection, equal: Equal) -> bool:
    """Two tuples, lists, sets or ratios."""
    if "cases" in (gold.kind, answer.kind):
        return gold.kind == answer.kind and same_pieces(gold, answer, equal)
    joined = {gold.kind, answer.kind}
    if joined == {"and", "or"} or (joined == {"list", "or"} and _speaks_of_several((*gold.items, *answer.items))):
        return False  # `x > 0, y > 0` says both
    if "and" in joined and joined <= {"and", "list"}:
        return _any_order(gold.items, answer.items, equal)
    kinds = {"list" if form.kind == "or" else form.kind for form in (gold, answer)}
    if kinds == {"clock"}:
        return _in_order(gold.items, answer.items, equal)
    kinds = {"ratio" if kind == "clock" else kind for kind in kinds}
    if "either" in kinds:
        return len(kinds) == 1 and _any_order(gold.items, answer.items, equal)
    if kinds == {"set", "tuple"}:  # the set of one solution
        inner = [only_element(form) for form in (gold, answer)]
        return inner != [gold, answer] and equal(*inner)
    if kinds == {"tuple", "list"} and in_force().bare_tuples == "refused":
        return False
    if kinds == {"list"} and in_force().list_order == "kept":
        return _in_order(gold.items, answer.items, equal)
    if kinds <= {"set", "list"}:  # neither order nor repetition says anything
        return _contains(gold.items, answer.items, equal) and _contains(answer.items, gold.items, equal)
    if len(gold.items) == 2 and kinds == {"tuple", "bracket"}:
        return False  # an open against a closed interval
    if kinds == {"bracket", "list"} and (gold.kind == "bracket" or _may_be_interval(answer)):
        return len(gold.items) != 2 and _in_order(gold.items, answer.items, equal)
    if kinds == {"ratio"} and _same_quotient(gold, answer, equal):
        return True
    if len(kinds) == 2 and kinds & {"set", "ratio"}:
        return False
    return _in_order(gold.items, answer.items, equal)


def _speaks_of_several(items: Sequence[Form]) -> bool:
    """Whether there are inequalities of different names among them."""
    found = [named for item in items if (named := range_of(item)) is not None and has_constant_ends(named[1])]
    return len({name for name, _ in found}) > 1


def _may_be_interval(form: Collection) -> bool:
    """Whether `[a, b]` is a range, for all that its ends say: the first is not the greater."""
    values = [numeric.real_value(item.expression) for item in form.items if isinstance(item, Value)]
    if len(form.items) != 2 or len(values) != 2:
        return len(form.items) == 2
    low, high = values
    return low is None or high is None or bool(low < high)


def _same_quotient(gold: Collection, answer: Collection, equal: Equal) -> bool:
    """`4:6` and `2:3`: proportional, all of them."""
    one, other = ([item.expression for item in form.items if isinstance(item, Value)] for form in (gold, answer))
    if not len(gold.items) == len(answer.items) == len(one) == len(other):
        return False
    if any(isinstance(item, Value) and item.unit for item in (*gold.items, *answer.items)) or _is_zero(one[0]) or _is_zero(other[0]):
        return False
    crossed = [(Value(Product((left, other[0]))), Value(Product((right, one[0])))) for left, right in zip(one, other, strict=True)]
    return all(equal(left, right) for left, right in crossed[1:])


def _is_zero(expression: Expression) -> bool:
    return exact.rational(expression) == 0


def _in_order(gold: Sequence[Form], answer: Sequence[Form], equal: Equal) -> bool:
    return len(gold) == len(answer) and all(equal(left, right) for left, right in zip(gold, answer, strict=True))


def _any_order(gold: Sequence[Form], answer: Sequence[Form], equal: Equal) -> bool:
    if len(gold) != len(answer):
        return False
    rest = list(answer)
    for item in gold:
        place = next((index for index, other in enumerate(rest) if equal(item, other)), None)
        if place is None:
            return False
        del rest[place]
    return True


def _contains(these: Sequence[Form], those: Sequence[Form], equal: Equal) -> bool:
    known = set(these)
    return all(other in known or any(_same_element(one, other, equal) for one in these) for other in those)


def _same_element(one: Form, other: Form, equal: Equal) -> bool:
    """`{3}` inside of a set is not 3."""
    kinds = [isinstance(form, Collection) and form.kind == "set" for form in (one, other)]
    return kinds[0] == kinds[1] and equal(one, other)


def same_operands(gold: SetOperation, answer: SetOperation, equal: Equal) -> bool:
    """The parts of two set operations of one kind."""
    if gold.operator == "\\setminus":
        return _in_order(gold.parts, answer.parts, equal)
    return _any_order(gold.parts, answer.parts, equal)


def quotient(form: Form) -> Form:
    """`2:3` as two thirds."""
    match form:
        case Collection("ratio" | "clock", (Value(top, "", _), Value(bottom, "", _))):
            return Value(Product((top, Power(bottom, MINUS_ONE))))
    return form


def only_element(form: Form) -> Form:
    """What a set of one element holds."""
    return form.items[0] if isinstance(form, Collection) and form.kind == "set" and len(form.items) == 1 else form


def same_named(gold: Form, answer: Form) -> bool:
    """Two sets of which one at least goes by its name."""
    names = {_set_name(gold), _set_name(answer)}
    return len(names) == 1 and None not in names


_REALS = "(-1*oo, oo)"


def _set_name(form: Form) -> str | None:
    if isinstance(form, Named):
        return form.name
    if render(form) == _REALS:
        return "R"
    return "emptyset" if form == Collection("set", ()) else None
