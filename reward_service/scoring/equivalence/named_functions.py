r"""Functions that are written by name and meant by their definition: `\operatorname{sech} x` is one over the hyperbolic cosine.

They are rewritten into functions that all later stages know, so that `\operatorname{arsinh} 2` equals `\ln(2 + \sqrt5)`.
"""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum

_AREA = ("sinh", "cosh", "tanh", "coth", "sech", "csch")
AREA_FUNCTIONS = frozenset(f"arc{name}" for name in _AREA)  # inverses of the hyperbolic ones, under the one name that is used here
RECIPROCALS = {"sech": "cosh", "csch": "sinh"}
NAMES = AREA_FUNCTIONS | RECIPROCALS.keys()
ALIASES = {
    **{f"{prefix}{name}": f"arc{name}" for prefix in ("ar", "a") for name in _AREA},
    "cosech": "csch", "arcosech": "arccsch", "cosec": "csc", "arccosec": "arccsc", "acot": "arccot", "asec": "arcsec", "acsc": "arccsc",
    "sh": "sinh", "ch": "cosh", "th": "tanh",
}  # fmt: skip
COMMANDS_ONLY = frozenset({"sh", "ch", "th"})  # names that without a backslash are letters
INVERSES = {name: f"arc{name}" for name in _AREA}
REPEATING = AREA_FUNCTIONS | {"cis"}  # their definitions write twice what they are applied to
MAX_REPEATING = 1  # of these within one another, as each doubles the size

_ONE, _MINUS_ONE, _HALF = Number(Fraction(1)), Number(Fraction(-1)), Number(Fraction(1, 2))
_TWO = Number(Fraction(2))


def applied(name: str, base: Expression | None, argument: Expression) -> Expression:
    """The named function of the argument; `base` is that of a logarithm."""
    if name == "exp":
        return Power(Constant("e"), argument)
    if name in ("lg", "log"):
        return Apply("log", (argument, base or Number(Fraction(10))))
    if name == "ln":
        return Apply("log", (argument, Constant("e")))
    if name == "cis":
        return Sum((Apply("cos", (argument,)), Product((Constant("i"), Apply("sin", (argument,))))))
    return _defined(name, argument) if name in NAMES else Apply(name, (argument,))


def _defined(name: str, argument: Expression) -> Expression:
    """The function of the argument, by its definition."""
    if name in RECIPROCALS:
        return Power(Apply(RECIPROCALS[name], (argument,)), _MINUS_ONE)
    if name in ("arcsech", "arccsch", "arccoth"):
        inverted = Power(argument, _MINUS_ONE)
        return _defined({"arcsech": "arccosh", "arccsch": "arcsinh", "arccoth": "arctanh"}[name], inverted)
    if name == "arctanh":
        above, below = Sum((_ONE, argument)), Sum((_ONE, Product((_MINUS_ONE, argument))))
        return Product((_HALF, _logarithm(Product((above, Power(below, _MINUS_ONE))))))
    if name == "arcsinh":
        return _logarithm(Sum((argument, Power(Sum((Power(argument, _TWO), _ONE)), _HALF))))
    return _logarithm(Sum((argument, Power(Sum((Power(argument, _TWO), _MINUS_ONE)), _HALF))))


def _logarithm(value: Expression) -> Expression:
    return Apply("log", (value, Constant("e")))
