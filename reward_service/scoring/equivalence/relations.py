r"""Equations, inequalities and names: `x = 5`, `f(x) = x^2`, `2y = 4x`, `x = 1, x = 2`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence import exact, numeric
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import (
    Apply,
    Collection,
    Expression,
    Form,
    Number,
    Power,
    Product,
    Relation,
    SetOperation,
    Sum,
    Value,
    Variable,
    Words,
    render,
)
from reward_service.scoring.equivalence.multiples import FLIPPED, Equal, same_multiples
from reward_service.scoring.equivalence.renaming import renamed
from reward_service.scoring.equivalence.units import says_no_more

_FUNCTION_NAMES = frozenset("fghFGHPQpq")
_FUNCTIONS_OF_TIME = frozenset("xysvahNTVCAQu")
_CALLED_NAMES, _ARGUMENT_NAMES = frozenset("yabcuvwrs"), frozenset("xntrskzmhd")
_MINUS_FIRST = Product((MINUS_ONE, Number(Fraction(1))))
_MAX_NAME_FACTORS = 4
_ORDERED = tuple(map(frozenset, ("xyz", "abcd", "pqr", "uvw", "XYZ", "ABCD", "PQR")))  # names whose order everybody knows


@dataclass(frozen=True, slots=True)
class Assignment:
    """A name and what it is said to be. `single_name`: a variable, a function or a tuple of variables, not a product of letters."""

    name: str
    values: tuple[Form, ...]
    single_name: bool


def without_approximations(form: Form, close: Equal) -> Form | None:
    r"""`2\sqrt{3} \approx 3.46` is its exact part; None where an approximation contradicts what it approximates."""
    if type(form) is not Relation or "approx" not in form.operators:
        return form
    first = form.operators.index("approx")
    sides, operators = form.sides[: first + 1], form.operators[:first]
    if first == 0 and (_is_single_name(sides[0]) or _is_compound_name(sides[0])):
        sides, operators, first = form.sides[:2], ("=",), 1
    if any(operator not in ("approx", "=") for operator in form.operators[first:]):
        return None
    if not all(close(sides[-1], side) for side in form.sides[first + 1 :]):
        return None
    return Relation(sides, operators) if operators else sides[0]


def assignment(relation: Relation) -> Assignment | None:
    r"""`name = value = ...` and `name \in set`."""
    if any(operator != "=" for operator in relation.operators[1:]) or relation.operators[0] not in ("=", "in"):
        return None
    name = relation.sides[0]
    single = _is_single_name(name) or _is_called_name(name, relation.sides[1])
    if not single and not _is_compound_name(name):
        return None
    if len(relation.sides) == 2 and isinstance(name, Collection):
        return Assignment(*_in_known_order(name, relation.sides[1]), single)
    return Assignment(render(name), relation.sides[1:], single)


def _in_known_order(names: Collection, values: Form) -> tuple[str, tuple[Form, ...]]:
    """`(y, x) = (1, 2)` as (x, y) and (2, 1), where everybody knows the order of the names."""
    if isinstance(values, Collection) and values.kind == "tuple" and len(values.items) == len(names.items):
        pairs = sorted(zip(map(render, names.items), values.items, strict=True), key=lambda pair: pair[0])
        if len({name for name, _ in pairs}) == len(pairs) and any(group.issuperset(name for name, _ in pairs) for group in _ORDERED):
            return f"({', '.join(name for name, _ in pairs)})", (Collection("tuple", tuple(value for _, value in pairs)),)
    return render(names), (values,)


def spread(form: Form) -> Form:
    """`x = y = 0` as the list of `x = 0` and `y = 0`."""
    if type(form) is not Relation or len(form.sides) < 3 or set(form.operators) != {"="}:
        return form
    names, value = form.sides[:-1], form.sides[-1]
    letters = {name.expression for name in names if isinstance(name, Value) and isinstance(name.expression, Variable) and not name.unit}
    if len(letters) != len(names) or not isinstance(value, Value) or not numeric.is_constant(value.expression):
        return form
    return Collection("list", tuple(Relation((name, value), ("=",)) for name in names))


def backwards(relation: Relation) -> Relation:
    """`5 = x` as `x = 5`."""
    return Relation(relation.sides[::-1], relation.operators) if relation.operators == ("=",) else relation


def _is_single_name(form: Form) -> bool:
    if isinstance(form, Collection):
        return form.kind == "tuple" and all(map(_is_single_name, form.items))
    if not isinstance(form, Value) or form.unit:
        return False
    match form.expression:
        case Variable():
            return True
        case Product((Variable(function), Variable(argument))):
            return function.rstrip("'") in _FUNCTION_NAMES or (argument == "t" and function in _FUNCTIONS_OF_TIME)
        case Product((Power(Variable(function), exponent), Variable())):  # an inverse
            return function in _FUNCTION_NAMES and exponent == _MINUS_FIRST
    return False


def _is_called_name(name: Form, value: Form) -> bool:
    """Whether it is a letter that is called with another, `V(r)`, and what it is said to be depends on that one."""
    if not isinstance(name, Value) or name.unit or not isinstance(value, Value):
        return False
    match name.expression:
        case Product((Variable(function), Variable(argument))):
            called = (function.isupper() or function in _CALLED_NAMES) and argument in _ARGUMENT_NAMES
            return len(function) == 1 and called and argument in numeric.variables(value.expression)
    return False


def is_quantity_name(form: Form) -> bool:
    """What is asked for, as `x + y`, `\\frac{m}{n}`, `|AB|`, `f(2)`: letters alone, and more than one of them or a function's name."""
    if isinstance(form, Collection) and form.kind == "ratio":
        return all(isinstance(item, Value) and _is_of_letters(item.expression) for item in form.items)
    if not isinstance(form, Value) or form.unit:
        return False
    match form.expression:
        case Product((Variable(function) | Power(Variable(function), _), argument)) if numeric.is_constant(argument):
            return function.rstrip("'") in _FUNCTION_NAMES
        case Apply("sin" | "cos" | "tan" | "cot" | "sec" | "csc", (angle,)):
            return _is_of_letters(angle) and all(name[:1].isupper() or len(name.partition("_")[0]) > 1 for name in numeric.variables(angle))
        case Apply("abs", (inner,)):
            names = set(numeric.variables(inner))
            vectors = all(name.startswith(("vec_", "bar_")) for name in names)
            return bool(names) and (vectors or (all(name[:1].isupper() for name in names) and _is_of_letters(inner)))
    return len(set(numeric.variables(form.expression))) > 1 and _is_of_letters(form.expression)


def says_a_quantity(relation: Relation) -> bool:
    r"""Whether it gives the number of something in a figure or of a function: `AB = 7`, `\cos A = \frac78`, `f(2) = 5`; not `x + y = 7`."""
    name, value = relation.sides[0], relation.sides[-1]
    if relation.operators == ("=",) and isinstance(value, Collection) and value.kind in ("ratio", "clock"):
        return is_quantity_name(name)
    if set(relation.operators) != {"="} or not isinstance(name, Value) or not isinstance(value, Value):
        return False
    letters = set(numeric.variables(name.expression))
    known = all(letter[:1].isupper() or letter.rstrip("'") in _FUNCTION_NAMES for letter in letters)
    return known and numeric.is_constant(value.expression) and (is_quantity_name(name) or _is_compound_name(name))


def names_a_set(relation: Relation) -> bool:
    r"""`A \cap B = \{1, 2\}`: sets by their letters, and what they make."""
    name = relation.sides[0]
    if relation.operators != ("=",) or not isinstance(name, SetOperation):
        return False
    return all(isinstance(part, Value) and isinstance(part.expression, Variable) for part in name.parts)


def names_a_value(relation: Relation, gold: Form) -> bool:
    """Whether the first side is what was asked for: a name, or beside a number other than 0 any term with letters, `2a - b = 5`.

    With one letter it is an equation that has to be solved, `2x = 5`; in x, y and z it may be one of a line, `2x + z = 1`.
    """
    name = relation.sides[0]
    if not isinstance(gold, Value) or not numeric.is_constant(gold.expression) or exact.rational(gold.expression) == 0:
        return is_quantity_name(name) and not _has_powers(name)
    if is_quantity_name(name):
        return True
    if not isinstance(name, Value) or name.unit:
        return False
    letters = set(numeric.variables(name.expression))
    return len(letters) > 1 and (letters.isdisjoint("xyz") or _calls_a_function(name.expression))


def _calls_a_function(expression: Expression) -> bool:
    match expression:
        case Apply():
            return True
        case Sum(parts) | Product(parts):
            return any(map(_calls_a_function, parts))
        case Power(base, exponent):
            return _calls_a_function(base) or _calls_a_function(exponent)
    return False


def _has_powers(form: Form) -> bool:
    """Whether powers are added: an equation, `x^2 + y^2 = z^2`, rather than what is asked for."""
    return (
        isinstance(form, Value)
        and isinstance(form.expression, Sum)
        and any(
            isinstance(term, Power) or (isinstance(term, Product) and any(isinstance(factor, Power) for factor in term.factors))
            for term in form.expression.terms
        )
    )


def _is_of_letters(expression: Expression) -> bool:
    match expression:
        case Variable():
            return True
        case Sum(parts) | Product(parts):
            return all(part == MINUS_ONE or _is_of_letters(part) for part in parts)
        case Power(base, Number()):
            return _is_of_letters(base)
    return False


def _is_compound_name(form: Form) -> bool:
    """`AB = 5` and `\\text{Area} = 5`: a name in an answer, though none that reduces a reference's equation."""
    if isinstance(form, Words):
        return bool(form.text) and (says_no_more(form.text) or form.text.startswith("P ("))
    if isinstance(form, Value) and not form.unit and isinstance(form.expression, Product):
        factors = form.expression.factors
        return len(factors) <= _MAX_NAME_FACTORS and all(isinstance(factor, Variable) and factor.name[:1].isupper() for factor in factors)
    return False


def is_named_list(form: Form) -> bool:
    """Whether it is a list of relations, as `x = 1, y = 2`."""
    return isinstance(form, Collection) and form.kind == "list" and all(isinstance(item, Relation) for item in form.items)


def speaks_of_several(items: tuple[Form, ...]) -> bool:
    """Whether all are assignments, and not all to the same variable: `a = 0`, `b = 0`."""
    assigned = [assignment(item) for item in items if isinstance(item, Relation) and item.operators == ("=",)]
    names = [item.name for item in assigned if item is not None and item.single_name]
    return len(names) == len(items) and len({name.partition("_")[0] for name in names}) > 1


def named_values(form: Form, keep_names: bool) -> Form:
    r"""A list of assignments as what it says: `x = 1, x = 2` is the list of 1 and 2, `x = 1, y = 2` the pair.

    Names that are told in alphabetical order are a pair, and those whose order everybody knows; which order `(m, b)` has, the names do
    not say. With `keep_names` none are.
    """
    if not isinstance(form, Collection) or not is_named_list(form):
        return form
    assigned = [assignment(item) for item in form.items if isinstance(item, Relation)]
    found = [item for item in assigned if item is not None and item.single_name and len(item.values) == 1]
    if len(found) != len(form.items):
        return form
    names = [item.name for item in found]
    values = tuple(item.values[0] for item in found)
    if len({name.partition("_")[0] for name in names}) == 1:
        return Collection("list", values)
    if keep_names or len(set(names)) != len(names):
        return form
    if names == sorted(names):
        return Collection("tuple", values)
    if any(group.issuperset(names) for group in _ORDERED):  # `y = 2, x = 1` is (1, 2)
        return Collection("tuple", tuple(value for _, value in sorted(zip(names, values, strict=True), key=lambda pair: pair[0])))
    return form


def same_relations(gold: Relation, answer: Relation, equal: Equal) -> tuple[bool, str]:
    """Two relations: the same chain, the same chain read backwards, or multiples of one another."""
    if gold.operators == answer.operators and all(map(equal, gold.sides, answer.sides)):
        return True, "relation"
    backwards = tuple(FLIPPED.get(operator, operator) for operator in answer.operators[::-1])
    if gold.operators == backwards and all(map(equal, gold.sides, answer.sides[::-1])):
        return True, "relation_backwards"
    answer = _with_argument_of(gold, answer) or answer
    one, other = assignment(gold), assignment(answer)
    if one is not None and other is not None and one.name == other.name and {gold.operators, answer.operators} == {("=",), ("in",)}:
        return _is_finite_set(one.values[0]) and _is_finite_set(other.values[0]) and equal(one.values[0], other.values[0]), "element"
    if one is not None and other is not None and one.name == other.name and len(answer.sides) + len(gold.sides) > 4:
        if all(equal(one.values[-1], value) for value in (*one.values, *other.values)):
            return True, "assignment"
        return False, "assignment"
    if one is not None and other is not None and _both_name_a_function(gold, answer):
        return equal(one.values[0], other.values[0]), "function"
    return same_multiples(gold, answer, equal, calls=_calls(gold) or _calls(answer)), "equation"


def _calls(relation: Relation) -> bool:
    """Whether a side is a function of its argument, `f(x)`, and no product."""
    for index, side in enumerate(relation.sides):
        if isinstance(side, Value) and not side.word and not isinstance(side.expression, Variable):
            others = relation.sides[:index] + relation.sides[index + 1 :]
            if _is_single_name(side) or any(_is_called_name(side, other) for other in others):
                return True
    return False


def _is_finite_set(form: Form) -> bool:
    return isinstance(form, Collection) and form.kind in ("set", "list")


def _both_name_a_function(gold: Relation, answer: Relation) -> bool:
    """`f(x) = ...` or `f^{-1}(x) = ...` and `y = ...`, or `P(t) = ...` and `P = ...`."""
    names = [relation.sides[0] for relation in (gold, answer)]
    if gold.operators != ("=",) or answer.operators != ("=",):
        return False
    one, other = (name.expression if isinstance(name, Value) and not name.word else None for name in names)
    for plain, called in ((one, other), (other, one)):
        match plain, called:
            case Variable("y"), Product((Variable(function), Variable("x"))):
                return function in _FUNCTION_NAMES or function == "y"
            case Variable("y"), Product((Power(Variable(function), exponent), Variable("x"))):
                return function in _FUNCTION_NAMES and exponent == _MINUS_FIRST
            case Variable(name), Product((Variable(function), Variable(argument))):
                return name == function and not argument.isupper()
    return False


def _with_argument_of(gold: Relation, answer: Relation) -> Relation | None:
    """The answer `f(t) = 2t` as `f(x) = 2x` where the reference says `f(x)`: what an argument is called says nothing."""
    match [side.expression if isinstance(side, Value) else None for side in (gold.sides[0], answer.sides[0])]:
        case [Product((Variable(function), Variable(name))), Product((Variable(other), Variable(called)))] if function == other:
            used = {found for side in answer.sides if isinstance(side, Value) for found in numeric.variables(side.expression)}
            if function not in _FUNCTION_NAMES or name in used or not all(isinstance(side, Value) for side in answer.sides):
                return None
            sides = [Value(renamed(side.expression, called, name)) for side in answer.sides if isinstance(side, Value) and not side.unit]
            return Relation(tuple(sides), answer.operators) if len(sides) == len(answer.sides) else None
    return None
