r"""Read an answer into a typed tree: values with units, tuples, sets, intervals, relations, matrices, words.

`x \in [0, \frac12)` is a relation whose right side is an interval; what is not in the grammar is `Words`, which equals nothing but the
same words. Where a notation is ambiguous there are several readings (`1,234`: a number, or a list of two). No text is ever evaluated:
numbers are read by `fractions.Fraction` from digits alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence.customs import phrase
from reward_service.scoring.equivalence.expressions import MINUS_ONE, read_expression
from reward_service.scoring.equivalence.forms import (
    Based,
    Collection,
    Constant,
    Expression,
    Form,
    Interval,
    Matrix,
    Named,
    Number,
    Product,
    Relation,
    SetOperation,
    Value,
    Variable,
    Words,
)
from reward_service.scoring.equivalence.limits import MAX_ITEMS, LimitExceeded, check_count, check_text
from reward_service.scoring.equivalence.normalize import normalize, plain_words
from reward_service.scoring.equivalence.short_words import short_word
from reward_service.scoring.equivalence.tokens import KNOWN_WORDS, MAX_LETTERS, NotMath, Token, tokenize
from reward_service.scoring.equivalence.units import is_unit_word, scaled, unit_name

_SPACE = re.compile(r"(?<![0-9A-Za-z.])\s+|\s+(?![0-9A-Za-z.])")  # `1 2` is not `12`


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was read. `limit` names the bound that it broke, if any; then nothing else was built."""

    latex: str
    words: str
    forms: tuple[Form, ...]
    limit: str | None = None

    @property
    def text(self) -> str:
        """The normalised text without the white space that says nothing: equal texts are equal answers."""
        return _SPACE.sub("", self.latex)


@functools.lru_cache(maxsize=512)
def read_answer(text: str) -> Reading:
    """All readings of an answer or a reference; never raises on any text."""
    try:
        check_text(text)
        normalized = normalize(text)
        forms = tuple(dict.fromkeys(_read(variant) for variant in _variants(normalized)))
    except LimitExceeded as error:
        return Reading("", "", (), error.limit)
    return Reading(normalized, plain_words(normalized), forms)


_THOUSANDS = re.compile(r"(?<![\d.,\w\\}])\d{1,3}(?:,\d{3})+(?![\d,\w])")
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,\w\\}] )(?<![\d.,\w\\}])[1-9]\d{0,2}(?: \d{3})+(?![\d\w]| \d)")


def _variants(text: str) -> list[str]:
    """The text, and before it the text with its bare `1,234` and `1 234` as whole numbers."""
    if any(bracket in text for bracket in "([{"):
        return [text]
    joined = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    joined = _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), joined)
    return [joined, text] if joined != text else [text]


_BASED = re.compile(r"([0-9A-F][0-9A-Za-z]*)\s*_\s*(?:\{\s*(\d{1,2})\s*\}|(\d{1,2}))")
_SENTENCE = re.compile(r"[A-Za-z][A-Za-z' ,.;:?!-]* [A-Za-z' ,.;:?!-]*")
_LONG_WORD = re.compile(rf"[A-Za-z]{{{MAX_LETTERS + 1},}}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _read(text: str) -> Form:
    named = phrase(plain_words(text))
    if named:
        return _answer(tokenize(named))
    based = _BASED.fullmatch(text)
    if based and (text[0].isdigit() or len(based[1]) > 1):
        digits, base = based[1].lower(), int(based[2] or based[3])
        return Based(digits.lstrip("0") or "0", base) if 2 <= base <= 36 and set(digits) <= set(_DIGITS[:base]) else Words(text)
    if _SENTENCE.fullmatch(text) and any(word not in KNOWN_WORDS for word in _LONG_WORD.findall(text)):
        return Words(plain_words(text))
    try:
        return _answer(tokenize(text))
    except NotMath:
        return Words(plain_words(text))


# ---- structure -------------------------------------------------------------------------------------------------------


def _split(tokens: Sequence[Token], at: Callable[[Token], bool]) -> tuple[list[Sequence[Token]], list[Token]]:
    """Cut at the top-level tokens that `at` accepts; the parts, and the tokens between them."""
    parts: list[Sequence[Token]] = []
    cuts: list[Token] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        if token.kind in ("open", "begin"):
            depth += 1
        elif token.kind in ("close", "end"):
            depth -= 1
            if depth < 0:
                raise NotMath("closed before opened")
        elif depth == 0 and at(token):
            parts.append(tokens[start:index])
            cuts.append(token)
            start = index + 1
    if depth:
        raise NotMath("never closed")
    parts.append(tokens[start:])
    check_count(len(parts), MAX_ITEMS, "max_items")
    return parts, cuts


def _is_comma(token: Token) -> bool:
    return token.kind == "comma"


def _answer(tokens: Sequence[Token]) -> Form:
    parts, cuts = _split(tokens, _is_comma)
    # `1, 2, and 3`: the comma before the word is part of it.
    kept = [index for index, part in enumerate(parts) if part or not (index and index < len(cuts) and cuts[index].text in ("or", "and"))]
    parts = [parts[index] for index in kept]
    if len(parts) == 1:
        return _item(parts[0])
    first = _split(parts[0], _is_equals)
    if len(first[0]) == 2 and not any(_split(part, _is_relation)[1] for part in parts[1:]):
        # `n = 1, 2, 3`: the name belongs to the whole list.
        name = _side(first[0][0])
        return Relation((name, Collection("list", _items([first[0][1], *parts[1:]]))), ("=",))
    kind = "and" if any(cut.text == "and" for cut in cuts) else "list"
    return _joined(_items(parts), kind)


def _items(parts: Sequence[Sequence[Token]]) -> tuple[Form, ...]:
    items: list[Form] = []
    for part in parts:
        item = _item(part)
        items.extend(item.items if isinstance(item, Collection) and item.kind == "list" else [item])
    return tuple(items)


def _joined(items: tuple[Form, ...], kind: str) -> Form:
    """A bare list; ranges joined by `or` are a union, those joined by `and` an intersection."""
    ranges = [range_of(item) for item in items]
    if len(items) > 1 and all(part is not None and part[0] == (ranges[0] or ("",))[0] for part in ranges):
        return SetOperation("\\cap" if kind == "and" else "\\cup", tuple(part[1] for part in ranges if part))
    return Collection("list", items)


def _is_equals(token: Token) -> bool:
    return token == ("relation", "=")


def _is_relation(token: Token) -> bool:
    return token.kind == "relation"


def _is_setop(token: Token) -> bool:
    return token.kind == "setop"


def _item(tokens: Sequence[Token]) -> Form:
    sides, operators = _split(tokens, _is_relation)
    if len(sides) == 1:
        return _side(tokens)
    return Relation(tuple(_side(side) for side in sides), tuple(operator.text for operator in operators))


def _side(tokens: Sequence[Token]) -> Form:
    parts, operators = _split(tokens, _is_setop)
    if len(parts) == 1:
        return _unit(tokens)
    if len({operator.text for operator in operators}) > 1:
        raise NotMath("mixed set operations")
    return SetOperation(operators[0].text, tuple(_unit(part) for part in parts))


def _unit(tokens: Sequence[Token]) -> Form:
    if not tokens:
        raise NotMath("nothing")
    if len(tokens) == 1 and tokens[0].kind == "named":
        return Named(tokens[0].text)
    if all(token.kind == "text" for token in tokens):
        return Words(plain_words(" ".join(token.text for token in tokens)))
    if tokens[0].kind == "begin":
        return _matrix(tokens)
    if any(token.kind == "pm" for token in tokens):
        return _plus_minus(tokens)
    collection = _bracketed(tokens)
    if collection is not None:
        return collection
    ratio, cuts = _split(tokens, lambda token: token == ("op", ":"))
    if cuts:
        return Collection("ratio", tuple(_quantity(part) for part in ratio))
    return _quantity(tokens)


def _bracketed(tokens: Sequence[Token]) -> Form | None:
    """A tuple, list, set or interval, if one pair of brackets holds all of the tokens and a comma."""
    if tokens[0].kind != "open" or tokens[-1].kind != "close" or not _closes_last(tokens):
        return None
    inside, brackets = tokens[1:-1], tokens[0].text + tokens[-1].text
    if not inside:
        return Collection("set", ()) if brackets == "\\{\\}" else None
    parts, cuts = _split(inside, _is_comma)
    if brackets == "{}":
        return _answer(inside)
    if not cuts:
        return Collection("set", (_item(inside),)) if brackets == "\\{\\}" else None
    items = _items(parts)
    if brackets == "\\{\\}":
        return Collection("set", items)
    if brackets in ("[)", "(]"):
        if len(items) != 2 or not all(isinstance(item, Value) for item in items):
            raise NotMath("not an interval")
        return Interval(_plain(items[0]), _plain(items[1]), (brackets[0] == "[", brackets[1] == "]"))
    return Collection("tuple" if brackets == "()" else "bracket", items)


def _closes_last(tokens: Sequence[Token]) -> bool:
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind in ("open", "begin")) - (token.kind in ("close", "end"))
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _plain(form: Form) -> Expression:
    if not isinstance(form, Value) or form.unit:
        raise NotMath("not a plain value")
    return form.expression


_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "vmatrix"})


def _matrix(tokens: Sequence[Token]) -> Form:
    if tokens[0].text not in _MATRICES or tokens[-1] != ("end", tokens[0].text) or not _closes_last(tokens):
        raise NotMath("not a matrix")
    inside = tokens[1:-1]
    if tokens[0].text == "array" and inside and inside[0].text == "{":
        inside = inside[next(index for index, token in enumerate(inside) if token.text == "}") + 1 :]
    lines, _ = _split(inside, lambda token: token == ("op", "\\\\"))
    if not lines[-1]:
        lines = lines[:-1]
    rows = tuple(tuple(read_expression(cell) for cell in _split(line, lambda token: token == ("op", "&"))[0]) for line in lines)
    if not rows or len({len(row) for row in rows}) != 1:
        raise NotMath("ragged matrix")
    check_count(len(rows) * len(rows[0]), MAX_ITEMS, "max_items")
    return Matrix(rows, bars=tokens[0].text == "vmatrix")


def _plus_minus(tokens: Sequence[Token]) -> Form:
    r"""`a \pm b` is the list of its two readings; several signs go together."""

    def resolved(upper: bool) -> list[Token]:
        return [Token("op", "+" if (token.text == "pm") == upper else "-") if token.kind == "pm" else token for token in tokens]

    return Collection("list", (_unit(resolved(True)), _unit(resolved(False))))


# ---- quantities ------------------------------------------------------------------------------------------------------


def _quantity(tokens: Sequence[Token]) -> Form:
    """An expression and the unit that stands before it (currency) or after it."""
    unit = ""
    if not tokens:
        raise NotMath("nothing")
    if tokens[0] == ("command", "dollar"):
        unit, tokens = "dollar", tokens[1:]
    elif len(tokens) > 1 and tokens[0].text == "-" and tokens[1] == ("command", "dollar"):
        unit, tokens = "dollar", [tokens[0], *tokens[2:]]
    elif len(tokens) > 1 and tokens[0].kind == "text" and tokens[0].text in ("euro", "pound"):
        unit, tokens = tokens[0].text, tokens[1:]
    tokens, after = _unit_after(tokens)
    scale, after = scaled(after)
    if after and unit and after != unit:
        raise NotMath("two units")
    expression = read_expression(tokens)
    if scale != 1:
        expression = Product((expression, Number(Fraction(scale))))
    return Value(_negated(expression), unit or after, "" if unit or after else short_word(tokens))


def _unit_after(tokens: Sequence[Token]) -> tuple[Sequence[Token], str]:
    end = len(tokens)
    if end > 1 and tokens[-1] == ("op", "%"):
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
    return tokens[:start], unit_name(" ".join(token.text for token in tokens[start:end])) + power


def _negated(expression: Expression) -> Expression:
    """Fold the sign into a plain number, so that `-5` is a number."""
    match expression:
        case Product((Number(Fraction(numerator=-1, denominator=1)), Number(value))) if expression.factors[0] == MINUS_ONE:
            return Number(-value)
    return expression


# ---- ranges ----------------------------------------------------------------------------------------------------------

_FLIPPED = {">": "<", ">=": "<="}
_INFINITY = Constant("oo")
_MINUS_INFINITY = Product((MINUS_ONE, _INFINITY))


def range_of(form: Form) -> tuple[str, Interval] | None:
    """The variable and the interval of an inequality like `1 < x \\le 3` or `x > 2`, if it is one."""
    if not isinstance(form, Relation):
        return None
    sides, operators = list(form.sides), list(form.operators)
    if all(operator in _FLIPPED for operator in operators):
        sides, operators = sides[::-1], [_FLIPPED[operator] for operator in operators[::-1]]
    if not all(operator in ("<", "<=") for operator in operators) or not all(isinstance(side, Value) and not side.unit for side in sides):
        return None
    values = [side.expression for side in sides if isinstance(side, Value)]
    match values, [operator == "<=" for operator in operators]:
        case [low, Variable(name), high], [low_closed, high_closed]:
            return name, Interval(low, high, (low_closed, high_closed))
        case [Variable(name), high], [closed] if not isinstance(high, Variable):
            return name, Interval(_MINUS_INFINITY, high, (False, closed))
        case [low, Variable(name)], [closed]:
            return name, Interval(low, _INFINITY, (closed, False))
    return None


def excluded_value(relation: Relation) -> Form | None:
    r"""The set of `x \neq 3`: all real numbers but one."""
    match relation.sides, relation.operators:
        case (Value(Variable(), "", ""), Value(value, "", "")), ("!=",) if not isinstance(value, Variable):
            return _all_but(value)
    return None


def without_excluded(form: Form) -> Form:
    r"""`\mathbb{R} \setminus \{3\}` as the union of two intervals."""
    match form:
        case SetOperation("\\setminus", (Named("R"), Collection("set", (Value(value, "", ""),)))):
            return _all_but(value)
    return form


def _all_but(value: Expression) -> SetOperation:
    ends = (False, False)
    return SetOperation("\\cup", (Interval(_MINUS_INFINITY, value, ends), Interval(value, _INFINITY, ends)))
