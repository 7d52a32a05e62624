r"""Are two values with units equal? `5\text{ cm}` is `5`, `10\%` is `0.1`, `45^\circ` is `\frac{\pi}{4}`, as conventions have it."""

from __future__ import annotations

from fractions import Fraction

from reward_service.scoring.equivalence.conventions import in_force
from reward_service.scoring.equivalence.equality import Finding, same_expressions
from reward_service.scoring.equivalence.forms import Constant, Expression, Number, Product, Value
from reward_service.scoring.equivalence.quantities import with_its_letter


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
    if finding.equal or units != {"%"} or gold.unit == answer.unit:
        return finding
    parts = [_hundredths(form) for form in (gold, answer)]
    as_fraction = same_expressions(*parts)
    return Finding(True, "percent") if as_fraction.equal else finding


def _hundredths(form: Value) -> Expression:
    return Product((form.expression, Number(Fraction(1, 100)))) if form.unit == "%" else form.expression
