r"""Vectors in components, where the other side is a vector: `2i + 5j - k`, `2\mathbf{i} + 5\mathbf{j}` as `(2, 5, -1)`, `(2, 5)`."""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence.forms import Collection, Constant, Expression, Form, Matrix, Number, Product, Sum, Value, Variable

_UNITS: tuple[Expression, ...] = (Constant("i"), Variable("j"), Variable("k"))
_ZERO, _ONE = Number(Fraction(0)), Number(Fraction(1))
_BRACKETS = frozenset({"tuple", "bracket"})


def beside_vector(form: Form, other: Form) -> Form:
    """A sum of components as a tuple, where the other side is a tuple or a column of as many; anything else as it is."""
    size = _size(other)
    if size is None or not isinstance(form, Value) or form.unit or form.word:
        return form
    found = _components(form.expression)
    if found is None or (size == len(_UNITS) - 1 and found[-1] != _ZERO):
        return form
    return Collection("tuple", tuple(map(Value, found[:size])))


def _size(form: Form) -> int | None:
    if isinstance(form, Collection) and form.kind in _BRACKETS and all(isinstance(item, Value) for item in form.items):
        size = len(form.items)
    elif isinstance(form, Matrix) and not form.bars and len(form.rows[0]) == 1:
        size = len(form.rows)
    else:
        return None
    return size if size in (len(_UNITS) - 1, len(_UNITS)) else None


def _components(expression: Expression) -> list[Expression] | None:
    """What i, j and k are multiplied by; None unless j or k is among several terms, each with one of them."""
    if not isinstance(expression, Sum):
        return None
    found: list[Expression] = [_ZERO] * len(_UNITS)
    for term in expression.terms:
        factors = _factors(term)
        units = [factor for factor in factors if factor in _UNITS]
        if len(units) != 1:
            return None
        index = _UNITS.index(units[0])
        if found[index] != _ZERO:
            return None
        rest = tuple(factor for factor in factors if factor not in _UNITS)
        found[index] = Product(rest) if len(rest) > 1 else rest[0] if rest else _ONE
    return found if found[1] != _ZERO or found[2] != _ZERO else None


def _factors(term: Expression) -> list[Expression]:
    if not isinstance(term, Product):
        return [term]
    return [factor for part in term.factors for factor in _factors(part)]
