"""The commonest long answers, read and compared in one pass: `3x^2 - 5x + 7` and `1, -2, 30`. What is beyond it goes the usual way."""

from __future__ import annotations

import re
from fractions import Fraction

from reward_service.scoring.equivalence.expressions import HALF, MINUS_ONE, number_of
from reward_service.scoring.equivalence.forms import Collection, Constant, Expression, Form, Number, Power, Product, Sum, Value, Variable

_MAX_CHARS = 600
_MAX_POWERS = 80
_MAX_EXPONENT = 10_000
_LETTERS = "abknxtyz"  # no two of which are a unit, a function or another word
_FACTOR = rf"[{_LETTERS}](?:\^(?:[0-9](?![0-9])|\{{[0-9]{{1,3}}\}}))?"
_TERM = re.compile(
    r"(?P<sign> ?[+-] ?)?"
    rf"(?:(?P<number>[0-9]{{1,15}}(?:\.[0-9]{{1,9}})?)(?P<letters>(?:{_FACTOR}){{0,2}})|(?P<alone>{_FACTOR}))"
)
_POWER = re.compile(_FACTOR)
_NUMBERS = re.compile(r"-?[0-9]{1,15}(?:, -?[0-9]{1,15}){1,199}")
_MULTIPLE = re.compile(r"(?P<number>[0-9]{1,15})?\\(?:sqrt\{(?P<radicand>[0-9]{1,15})\}|pi)")
_Monomial = tuple[tuple[str, int], ...]
_Polynomial = dict[_Monomial, int | Fraction]


def read_plainly(text: str) -> Form | None:
    """A sum of monomials or a list of whole numbers as the grammar reads it; None for any other text."""
    if len(text) > _MAX_CHARS:
        return None
    if ", " in text:
        inside, kind = (text[1:-1], "tuple") if text[:1] == "(" and text[-1] == ")" else (text, "list")
        if not _NUMBERS.fullmatch(inside):
            return None
        return Collection(kind, tuple(Value(Number(Fraction(int(number)))) for number in inside.split(", ")))
    if "\\" in text:
        return _multiple(text)
    if "^" not in text or text.count("^") > _MAX_POWERS:
        return None
    terms: list[Expression] = []
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or (not found["sign"] if terms else found["sign"] not in (None, "-")):
            return None
        at = found.end()
        terms.append(_term(found, bool(terms)))
    return Value(Sum(tuple(terms))) if len(terms) > 1 else None


def _multiple(text: str) -> Form | None:
    """`5\\sqrt{3}` and `5\\pi`, with a number before it or none."""
    found = _MULTIPLE.fullmatch(text)
    if found is None:
        return None
    last: Expression = Power(number_of(found["radicand"]), HALF) if found["radicand"] else Constant("pi")
    return Value(Product((number_of(found["number"]), last)) if found["number"] else last)


def _term(found: re.Match[str], later: bool) -> Expression:
    factors: list[Expression] = [number_of(found["number"])] if found["number"] else []
    for power in _POWER.findall(found["letters"] or found["alone"] or ""):
        letter = Variable(power[0])
        factors.append(Power(letter, number_of(power[1:].strip("^{}"))) if len(power) > 1 else letter)
    negative = "-" in (found["sign"] or "")
    if negative and not later:
        factors[0] = Product((MINUS_ONE, factors[0]))
    term = factors[0] if len(factors) == 1 else Product(tuple(factors))
    return Product((MINUS_ONE, term)) if negative and later else term


def same_sums(one: Sum, other: Sum) -> bool | None:
    """Whether two sums of monomials are the same polynomial; None where one of them is something else."""
    left = _polynomial(one)
    right = _polynomial(other) if left is not None else None
    return None if left is None or right is None else left == right


def _polynomial(total: Sum) -> _Polynomial | None:
    found: _Polynomial = {}
    for term in total.terms:
        powers: dict[str, int] = {}
        coefficient = _multiplied(term, powers)
        if coefficient is None:
            return None
        key = tuple(sorted(powers.items())) if len(powers) > 1 else tuple(powers.items())
        found[key] = found.get(key, 0) + coefficient
    return {key: value for key, value in found.items() if value}


def _multiplied(term: Expression, powers: dict[str, int]) -> int | Fraction | None:
    """The coefficient of a monomial, whose powers are added to those given; None for anything else."""
    kind = type(term)
    if kind is Number:
        value = term.value  # type: ignore[union-attr]
        return value.numerator if value.denominator == 1 else value
    if kind is Variable:
        powers[term.name] = powers.get(term.name, 0) + 1  # type: ignore[union-attr]
        return 1
    if kind is Power:
        base, exponent = term.base, term.exponent  # type: ignore[union-attr]
        if type(base) is not Variable or type(exponent) is not Number or exponent.value.denominator != 1:
            return None
        if not 0 <= exponent.value.numerator <= _MAX_EXPONENT:
            return None
        if exponent.value.numerator:
            powers[base.name] = powers.get(base.name, 0) + exponent.value.numerator
        return 1
    if kind is not Product:
        return None
    coefficient: int | Fraction = 1
    for factor in term.factors:  # type: ignore[union-attr]
        part = _multiplied(factor, powers)
        if part is None:
            return None
        coefficient *= part
    return coefficient
