r"""Complex conjugates of constants: `\overline{2-i}` is `2+i`."""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence.forms import Constant, Expression, Number, Power, Product, Sum

_IMAGINARY = Constant("i")
_CONJUGATE = Product((Number(Fraction(-1)), _IMAGINARY))


def conjugate(expression: Expression) -> Expression | None:
    """The conjugate of a constant that holds i and is made by whole powers, products and sums; None for anything else."""
    found = _mirrored(expression)
    return found if found != expression else None


def _mirrored(expression: Expression) -> Expression | None:
    match expression:
        case Constant("i"):
            return _CONJUGATE
        case Number() | Constant():
            return expression
        case Sum(parts):
            terms = [_mirrored(part) for part in parts]
            return Sum(tuple(term for term in terms if term)) if None not in terms else None
        case Product(parts):
            factors = [_mirrored(part) for part in parts]
            return Product(tuple(factor for factor in factors if factor)) if None not in factors else None
        case Power(Number(base), Number(exponent)) if base > 0 or exponent.denominator == 1:
            return expression
        case Power(base_tree, Number(exponent)) if exponent.denominator == 1:
            base_mirrored = _mirrored(base_tree)
            return Power(base_mirrored, Number(exponent)) if base_mirrored else None
    return None
