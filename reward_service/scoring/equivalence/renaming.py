"""One variable of an expression under another name."""

from __future__ import annotations

from reward_service.scoring.equivalence.forms import Apply, Expression, Power, Product, Sum, Variable


def renamed(expression: Expression, old: str, new: str) -> Expression:
    """The expression with `new` for every `old`."""
    match expression:
        case Variable(name):
            return Variable(new) if name == old else expression
        case Sum(parts):
            return Sum(tuple(renamed(part, old, new) for part in parts))
        case Product(parts):
            return Product(tuple(renamed(part, old, new) for part in parts))
        case Power(base, exponent):
            return Power(renamed(base, old, new), renamed(exponent, old, new))
        case Apply(function, arguments):
            return Apply(function, tuple(renamed(argument, old, new) for argument in arguments))
    return expression
