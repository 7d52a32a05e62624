r"""Are two values with units equal? `5\text{ cm}` is `5`, `10\%` is `0.1`, `45^\circ` is `\frac{\pi}{4}`, as conventions have it."""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.conventions import in_force
from reward_service.scoring.equivalence.equality import Finding, same_expressions
from reward_service.scoring.equivalence.forms import Constant, Expression, Form, Number, Product, Relation, Value, Variable
from reward_service.scoring.equivalence.quantities import with_its_letter


def same_plain_numbers(gold: Form, answer: Form) -> Finding | None:
    """What most pairs are: two numbers, one of them with a unit or under a letter perhaps."""
    if type(answer) is Relation and answer.operators == _EQUALS and type(gold) is Value and not gold.unit:
        name, value = answer.sides
        if type(name) is Value and type(name.expression) is Variable and not name.unit and type(value) is Value and not value.unit:
            answer = value
    if type(gold) is not Value or type(answer) is not Value:
        return None
    if type(gold.expression) is not Number or type(answer.expression) is not Number:
        return None
    if gold.unit != answer.unit and ((gold.unit and answer.unit) or gold.unit in _CONVERTED or answer.unit in _CONVERTED):
        return None
    return same_expressions(gold.expression, answer.expression)


_EQUALS = ("=",)
_CONVERTED = frozenset({"%", "degree"})  # units that may change the number


def same_values(gold: Value, answer: Value) -> Finding:
    """Two values with their units, under the conventions in force. May not end where SymPy is asked: run under a deadline."""
    if not gold.unit and not answer.unit:
        return same_expressions(gold.expression, answer.expression)
    gold, answer = with_its_letter(gold, answer.unit), with_its_letter(answer, gold.unit)
    units = {gold.unit, answer.unit} - {""}
    chosen = in_force()
    if chosen.units == "required" and units and "%" not in units and gold.unit != answer.unit:
        return Finding(False, "unit_missing")
    if chosen.percent == "hundredth" and "%" in units:
        return same_expressions(*(_hundredths(form) for form in (gold, answer)))
    if len(units) == 2 and not (all(unit.startswith("degree") for unit in units) and "degree" in units):
        return Finding(False, "units_differ")
    if chosen.angles == "converted" and units == {"degree"} and gold.unit != answer.unit:
        parts = [Product((form.expression, Constant("deg"))) if form.unit else form.expression for form in (gold, answer)]
        if same_expressions(*parts).equal:
            return Finding(True, "radians")
    finding = same_expressions(gold.expression, answer.expression)
    if finding.equal and answer.unit == "%" and not gold.unit and _is_a_share(gold.expression):
        return Finding(False, "percent_added")
    if finding.equal or units != {"%"} or gold.unit == answer.unit:
        return finding
    parts = [_hundredths(form) for form in (gold, answer)]
    as_fraction = same_expressions(*parts)
    return Finding(True, "percent") if as_fraction.equal else finding


def _is_a_share(expression: Expression) -> bool:
    """Whether it is less than 1, as no number of percents is: `0.3\\%` would be a second guess beside `30\\%`."""
    value = numeric.real_value(expression)
    return value is not None and bool(0 < abs(value) < 1)


def _hundredths(form: Value) -> Expression:
    return Product((form.expression, Number(Fraction(1, 100)))) if form.unit == "%" else form.expression
