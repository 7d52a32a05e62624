"""One variable of an expression, or of an answer, under another name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from reward_service.scoring.equivalence.forms import (
    Apply,
    Collection,
    Expression,
    Form,
    Number,
    Power,
    Product,
    Relation,
    Sum,
    Value,
    Variable,
)

_DECLARED = re.compile(
    r"(?<![A-Za-z\\])([kmn])\s*\\in\s*\\math(?:bb|bf|rm)\s*\{?\s*[ZN]"
    r"|(?<![A-Za-z\\])([kmn])\s*\\text\s*\{ ?(?:is|are) (?:an |any )?integers?"
)
PARAMETER = "k"


def under_one_parameter(text: str, forms: tuple[Form, ...]) -> tuple[Form, ...]:
    r"""The forms, and those with `k` for the integer that the text declares under another name: `2\pi n, n \in \mathbb{Z}`."""
    found = _DECLARED.search(text)
    name = (found[1] or found[2]) if found else PARAMETER
    if name == PARAMETER or _ALREADY.search(text):
        return forms
    return tuple(dict.fromkeys((*forms, *(_renamed_form(form, name, PARAMETER) for form in forms))))


_ALREADY = re.compile(r"(?<![A-Za-z\\])k(?![A-Za-z])")


def _renamed_form(form: Form, old: str, new: str) -> Form:
    match form:
        case Value(expression, unit, word):
            return Value(renamed(expression, old, new), unit, word)
        case Collection(kind, items):
            return Collection(kind, tuple(_renamed_form(item, old, new) for item in items))
        case Relation(sides, operators):
            return Relation(tuple(_renamed_form(side, old, new) for side in sides), operators)
    return form


def renamed(expression: Expression, old: str, new: str) -> Expression:
    """The expression with `new` for every `old`."""
    return replaced(expression, {old: Variable(new)})


def at_point(expression: Expression, point: Mapping[str, Fraction]) -> Expression:
    """The expression with numbers for its variables."""
    return replaced(expression, {name: Number(value) for name, value in point.items()})


def replaced(expression: Expression, by_name: Mapping[str, Expression]) -> Expression:
    """The expression with other ones for its variables."""
    match expression:
        case Variable(name):
            return by_name.get(name, expression)
        case Sum(parts):
            return Sum(tuple(replaced(part, by_name) for part in parts))
        case Product(parts):
            return Product(tuple(replaced(part, by_name) for part in parts))
        case Power(base, exponent):
            return Power(replaced(base, by_name), replaced(exponent, by_name))
        case Apply(function, arguments):
            return Apply(function, tuple(replaced(argument, by_name) for argument in arguments))
    return expression
