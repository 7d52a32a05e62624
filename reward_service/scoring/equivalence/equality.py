"""Are two expressions equal? Proved by exact algebra, confirmed by numbers, or found by SymPy where these say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence import algebraic, exact, hidden, numeric, quick, second_opinion
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import MAX_TOWER
from reward_service.scoring.equivalence.polynomials import same_polynomials
from reward_service.scoring.equivalence.sparse import same_sums


@dataclass(frozen=True, slots=True)
class Finding:
    """Equal or not, by which rule, and where values differ."""

    equal: bool
    rule: str
    witness: str = ""


def same_expressions(gold: Expression, answer: Expression) -> Finding:
    """Cheapest stage first. May not end where SymPy is asked: run under a deadline."""
    if isinstance(gold, Number) and isinstance(answer, Number):
        if gold.value == answer.value:
            return Finding(True, "exact")
        return Finding(False, "exact", witness(gold.value, answer.value))
    same = same_sums(gold, answer) if type(gold) is Sum and type(answer) is Sum else None
    if same is not None:
        return Finding(True, "exact") if same else Finding(False, "exact", quick.certainly_different(gold, answer)[1])
    return _beyond_sums(gold, answer)


def _beyond_sums(gold: Expression, answer: Expression) -> Finding:
    if _has_infinity(gold) or _has_infinity(answer):
        signs = [_infinity_sign(side) for side in (gold, answer)]
        return Finding(None not in signs and signs[0] == signs[1], "infinity")
    if gold == answer and not exact.divides_by_zero(gold):
        return Finding(True, "identical_tree")
    differ, witness = quick.certainly_different(gold, answer)
    if differ:
        return Finding(False, "numeric", witness)
    if differ is False and quick.same_square_roots(gold, answer):
        return Finding(True, "exact")
    settled = _by_algebra(gold, answer)
    if settled is not None:
        return settled
    found, witness = numeric.compare(gold, answer)
    if found is numeric.Evidence.REFUTED:
        return Finding(False, "numeric", witness)
    agrees = found is numeric.Evidence.AGREES
    constant = numeric.is_constant(gold) and numeric.is_constant(answer)
    if agrees and not constant:
        return Finding(True, "numeric")
    if constant:
        settled = _same_constants(gold, answer, agrees)
        if settled is not None:
            return settled
    if not all(exact.within_limits(side) and _tower(side) <= MAX_TOWER for side in (gold, answer)):
        return Finding(False, "too_big")  # SymPy would build the number
    if constant and not all(map(numeric.has_value, (gold, answer))):
        return Finding(False, "no_value")
    zero = second_opinion.simplifies_to_zero(gold, answer)
    return Finding(zero is True, "sympy" if zero is not None else "numeric")


def _by_algebra(gold: Expression, answer: Expression) -> Finding | None:
    same = same_polynomials(gold, answer)
    if same is not None:
        return Finding(same, "exact")
    if exact.equal(gold, answer):
        return Finding(True, "exact")
    if exact.divides_by_zero(gold) or exact.divides_by_zero(answer):
        return Finding(False, "undefined")
    values = [exact.rational(side) for side in (gold, answer)]
    if None not in values:
        return Finding(False, "exact", witness(*values))
    return None


def _same_constants(gold: Expression, answer: Expression, agrees: bool) -> Finding | None:
    """Algebraic numbers by their separation bound; others that agree to five hundred places or more."""
    places = algebraic.digits_to_decide(gold, answer)
    if places is not None:
        same = numeric.agree_to(gold, answer, places)
        return None if same is None else Finding(same, "algebraic")
    places = hidden.places_to_compare(gold, answer, {}, numeric.CERTAIN_PLACES) if agrees else None
    if places is None:
        return Finding(False, "numeric") if agrees else None  # they may differ beyond the last place that can be looked at
    same = numeric.agree_to(gold, answer, places)
    return None if same is None else Finding(same, "numeric")


def _tower(expression: Expression) -> int:
    """How many powers stand in exponents of one another."""
    match expression:
        case Sum(parts) | Product(parts) | Apply(_, parts):
            return max(map(_tower, parts))
        case Power(base, exponent):
            return max(_tower(base), 1 + _tower(exponent))
    return 0


_PRINTED_WHOLE = 10**8
_SHOWN_BITS = 1_000


def witness(gold: Fraction | int | None, answer: Fraction | int | None) -> str:
    """Two different values for people; "" for what floats cannot tell apart."""
    if gold is None or answer is None:
        return ""
    if gold.denominator == answer.denominator == 1 and max(map(abs, (gold.numerator, answer.numerator))) < _PRINTED_WHOLE:
        return f"{gold} against {answer}"
    return f"{float(gold):.8g} against {float(answer):.8g}" if _small(gold) and _small(answer) and gold != answer else ""


def _small(value: Fraction | int) -> bool:
    return value.numerator.bit_length() < _SHOWN_BITS and value.denominator.bit_length() < _SHOWN_BITS


def _has_infinity(expression: Expression) -> bool:
    kind = type(expression)
    if kind is Number or kind is Variable:
        return False
    if kind is Product:
        return any([_has_infinity(factor) for factor in expression.factors])  # type: ignore[union-attr]
    if kind is Sum:
        return any([_has_infinity(term) for term in expression.terms])  # type: ignore[union-attr]
    match expression:
        case Constant(name):
            return name == "oo"
        case Apply(_, parts):
            return any(map(_has_infinity, parts))
        case Power(base, exponent):
            return _has_infinity(base) or _has_infinity(exponent)
    return False


def _infinity_sign(expression: Expression) -> int | None:
    """Infinity itself, with its sign; arithmetic with infinity has no value here."""
    match expression:
        case Constant("oo"):
            return 1
        case Product((sign, Constant("oo"))) if sign == MINUS_ONE:
            return -1
    return None
