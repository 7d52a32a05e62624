r"""What conventions change about a text before or after it is read: decimal commas, names of variables, rounded decimals."""

from __future__ import annotations

import re
from fractions import Fraction

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.forms import Form, Value
from reward_service.scoring.equivalence.renaming import renamed

_COMMA_DECIMAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+)(?:,|\{,\})(\d+)(?![\d,])")
_DECIMAL = re.compile(r"(?:[A-Za-z]=)?-?(\d*)\.(\d+)(?:\\text\{[^{}]*\}|\\dollar|%|\^\\circ)?")


def with_decimal_points(text: str) -> str:
    """`3,14` as `3.14`, and `1.234,5` as `1234.5`."""
    return _COMMA_DECIMAL.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)


def rounds_to(gold_text: str, gold: Form, answer: Form) -> bool:
    """Whether the reference is a decimal numeral and the answer rounds to it, or it to the answer's value within half its last digit."""
    found = _DECIMAL.fullmatch(gold_text.replace(" ", ""))
    if found is None or not isinstance(gold, Value) or not isinstance(answer, Value) or gold.unit != answer.unit:
        return False
    half = Fraction(1, 2 * 10 ** len(found[2]))
    return numeric.within(gold.expression, answer.expression, half)


def with_its_name(gold: Form, answer: Form) -> Form:
    """The answer with its only variable under the name of the reference's only one."""
    if not isinstance(gold, Value) or not isinstance(answer, Value):
        return answer
    names = [sorted(set(numeric.variables(form.expression))) for form in (gold, answer)]
    if len(names[0]) != 1 or len(names[1]) != 1:
        return answer
    return Value(renamed(answer.expression, names[1][0], names[0][0]), answer.unit)
