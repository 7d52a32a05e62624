r"""Values with their units: `5 \text{ cm}`, `\$32`, `25\%`, `45^\circ`, `3 million`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from reward_service.scoring.equivalence.expressions import MINUS_ONE, read_expression
from reward_service.scoring.equivalence.forms import Expression, Form, Number, Power, Product, Value, Variable
from reward_service.scoring.equivalence.short_words import short_word
from reward_service.scoring.equivalence.tokens import NotMath, Token
from reward_service.scoring.equivalence.units import is_unit_word, scaled, unit_name


def read_quantity(tokens: Sequence[Token]) -> Form:
    """An expression and the unit that stands before it (currency) or after it."""
    unit = ""
    if not tokens:
        raise NotMath("nothing")
    if tokens[0] == ("command", "dollar"):
        unit, tokens = "dollar", tokens[1:]
    elif len(tokens) > 1 and tokens[0].text == "-" and tokens[1] == ("command", "dollar"):
        unit, tokens = "dollar", [tokens[0], *tokens[2:]]
    elif len(tokens) > 1 and tokens[0].kind == "text" and tokens[0].text in ("euro", "pound", "yen"):
        unit, tokens = tokens[0].text, tokens[1:]
    tokens, after = _unit_after(tokens)
    scale, after = scaled(after)
    if after and unit and after != unit:
        raise NotMath("two units")
    expression = read_expression(tokens)
    if len(after) == 1 and not any(token.kind == "number" for token in tokens):
        raise NotMath("a letter behind letters")
    if scale != 1:
        expression = Product((expression, Number(Fraction(scale))))
    return Value(_negated(expression), unit or after, "" if unit or after else short_word(tokens))


def _unit_after(tokens: Sequence[Token]) -> tuple[Sequence[Token], str]:
    end = len(tokens)
    if end > 1 and tokens[-1] == ("op", "%"):
        if tokens[-2] == tokens[-1]:
            raise NotMath("a percentage of a percentage")
        return tokens[:-1], "%"
    if end > 2 and tokens[-2:] == [("op", "^"), ("command", "circ")] and not any(token.kind == "function" for token in tokens):
        return tokens[:-2], "degree"
    if end > 3 and tokens[-1].kind in ("letter", "text") and tokens[-1].text in ("C", "F") and tokens[-2] == ("command", "circ"):
        return tokens[:-3], "degree " + tokens[-1].text.lower()
    if end > 1 and tokens[-1] == ("command", "dollar"):
        return tokens[:-1], "dollar"
    power = ""
    if end > 2 and tokens[-2] == ("op", "^") and tokens[-3].kind == "text" and tokens[-1].kind == "number":
        power, end = "^" + tokens[-1].text, end - 2
    elif end > 4 and tokens[-4] == ("op", "^") and tokens[-5].kind == "text" and tokens[-2].kind == "number":
        power, end = "^" + tokens[-2].text, end - 4
    start = end
    while start > 1 and (tokens[start - 1].kind == "text" or (tokens[start - 1] == ("op", "/") and start < end)):
        start -= 1
    if start == end:
        return tokens, ""
    if tokens[start] == ("op", "/"):
        raise NotMath("a unit that begins with a slash")
    if any(not is_unit_word(token.text) for token in tokens[start:end]):
        raise NotMath("words after the value")
    return tokens[:start], unit_name(" ".join(token.text for token in tokens[start:end]) + power)


_MAX_UNIT_FACTORS = 6


def with_its_letter(form: Value, unit: str) -> Value:
    """`5 m`, `5 mW`, `5 m/s^2` with the letters behind its number as the unit, where the other side has that unit."""
    if not unit or form.unit or not isinstance(form.expression, Product):
        return form
    factors = form.expression.factors
    first = next((index for index, factor in enumerate(factors) if _as_letters(factor)), 0)
    letters = [_as_letters(factor) for factor in factors[first:]]
    if not first > 0 or not all(letters) or len(letters) > _MAX_UNIT_FACTORS or not all(map(_is_numeric, factors[:first])):
        return form
    if unit not in (unit_name("".join(letters)), unit_name(" ".join(letters).replace(" /", "/"))):
        return form
    numbers = factors[:first]
    return Value(numbers[0] if first == 1 else Product(numbers), unit)


def _as_letters(factor: Expression) -> str:
    """How a letter in a unit was written: `m`, `/s`, `/s^2`, `m^2`; "" for what is none."""
    match factor:
        case Variable(name) if len(name) == 1 and name.isascii():
            return name
        case Power(Variable(name), Number(power)) if len(name) == 1 and name.isascii() and power.denominator == 1:
            exponent = abs(power.numerator)
            return ("/" if power < 0 else "") + name + (f"^{exponent}" if exponent > 1 else "")
        case Power(Power(Variable(name), Number(power)), Number(Fraction(numerator=-1, denominator=1))):
            return f"/{name}^{power}" if len(name) == 1 and power.denominator == 1 and power > 1 else ""
    return ""


def _is_numeric(factor: Expression) -> bool:
    match factor:
        case Number() | Power(Number(), Number()) | Power(Power(Number(), Number()), Number()):
            return True
        case Power(Number(), Product((Number(), Number()))):
            return True
    return False


def _negated(expression: Expression) -> Expression:
    """Fold the sign into a plain number, so that `-5` is a number."""
    match expression:
        case Product((Number(Fraction(numerator=-1, denominator=1)), Number(value))) if expression.factors[0] == MINUS_ONE:
            return Number(-value)
    return expression
