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

from reward_service.scoring.equivalence.arrays import read_arrays
from reward_service.scoring.equivalence.bound_names import with_bound_names
from reward_service.scoring.equivalence.expressions import number_of, read_expression
from reward_service.scoring.equivalence.forms import (
    Based,
    Collection,
    Congruence,
    Expression,
    Form,
    Interval,
    Named,
    Number,
    Relation,
    SetOperation,
    Value,
    Variable,
    Words,
)
from reward_service.scoring.equivalence.limits import MAX_ITEMS, LimitExceeded, check_count, check_text
from reward_service.scoring.equivalence.matrices import holds_matrix, read_matrix
from reward_service.scoring.equivalence.normalize import normalize, plain_words, with_small_words
from reward_service.scoring.equivalence.phrases import phrase
from reward_service.scoring.equivalence.piecewise import Pieces, pieces_of
from reward_service.scoring.equivalence.plain import Plain, read_plain
from reward_service.scoring.equivalence.qualifiers import numbers_of_parameter
from reward_service.scoring.equivalence.quantities import read_quantity
from reward_service.scoring.equivalence.relations import named_values, speaks_of_several
from reward_service.scoring.equivalence.renaming import under_one_parameter
from reward_service.scoring.equivalence.sparse import read_plainly
from reward_service.scoring.equivalence.tokens import KNOWN_WORDS, MAX_LETTERS, NotMath, Token, closes_last, split, tokenize
from reward_service.scoring.equivalence.variants import name_and_value, variants

_AFTER_COMMAND = re.compile(r"(?<=\\le) (?=[^A-Za-z])|(?<=\\ge) (?=[^A-Za-z])|(?<=\\neq) (?=[^A-Za-z])|(?<=\\pi) (?=[^A-Za-z])")
_SPACE = re.compile(r"(?<![0-9A-Za-z.])\s+|\s+(?![0-9A-Za-z.])")  # `1 2` is not `12`


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was read.

    `limit` names the bound that it broke, if any; then nothing else was built. `numbers` says what a parameter runs through where that is
    said behind the answer: `Z` or `N`.
    """

    latex: str
    words: str
    forms: tuple[Form, ...]
    limit: str | None = None
    numbers: str = ""

    @property
    def text(self) -> str:
        """The normalised text without the white space that says nothing: equal texts are equal answers."""
        if " " not in self.latex and self.latex.isprintable():
            return self.latex
        return _SPACE.sub("", _AFTER_COMMAND.sub("", self.latex) if "\\" in self.latex else self.latex)


@functools.lru_cache(maxsize=4096)
def read_answer(text: str) -> Reading:
    """All readings of an answer or a reference; never raises on any text."""
    plain = read_plain(text)
    if plain is not None:
        return Reading(plain.latex, plain_words(plain.latex), (_plain_form(plain),))
    short = f"({text[6:-7]})" if text.startswith("\\left(") and text.endswith("\\right)") else text
    form = read_plainly(short)
    return Reading(short, plain_words(short), (form,)) if form is not None else read_fully(text)


def read_fully(text: str) -> Reading:
    """All readings by the grammar, without the short cuts for what most answers are."""
    try:
        check_text(text)
        normalized = normalize(text)
        texts = variants(normalized)
        forms = (_read(texts[0]),) if len(texts) == 1 else tuple(dict.fromkeys(map(_read, texts)))
    except LimitExceeded as error:
        return Reading("", "", (), error.limit)
    words = plain_words(with_bound_names(normalized))
    if "\\in" in text or "integer" in text:
        forms = under_one_parameter(text, forms)
        return Reading(normalized, words, forms, numbers=numbers_of_parameter(text))
    return Reading(normalized, words, forms)


def _plain_form(plain: Plain) -> Form:
    number = Value(Number(Fraction(plain.top, plain.bottom)), plain.unit)
    return Relation((Value(Variable(plain.name)), number), ("=",)) if plain.name else number


_BASED = re.compile(r"([0-9A-F][0-9A-Za-z]*)\s*_\s*(?:\{\s*(\d{1,2})\s*\}|(\d{1,2}))")
_LOGIC = re.compile(r"\\(?:land|lor|wedge|vee)(?![A-Za-z])")
_SAYS_WHICH = re.compile(r"[0-9=<>]|\\(?:in|le|ge|neq)(?![A-Za-z])")  # what is joined are answers, not propositions
_SENTENCE = re.compile(r"[A-Za-z][A-Za-z' ,.;:?!-]*+")  # if there is a space in it
_ENUMERATED = re.compile(r"\((?:a|1|i)\) [^()]*\((?:b|2|ii)\) ")  # `(a) 0 (b) 1`: parts of an answer, no product
_LONG_WORD = re.compile(rf"[A-Za-z]{{{MAX_LETTERS + 1},}}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _read(text: str) -> Form:
    named = phrase(plain_words(text))
    if named:
        return _answer(tokenize(named))
    based = _BASED.fullmatch(text) if "_" in text else None
    if based and (text[0].isdigit() or len(based[1]) > 1):
        digits, base = based[1].lower(), int(based[2] or based[3])
        return Based(digits.lstrip("0") or "0", base) if 2 <= base <= 36 and set(digits) <= set(_DIGITS[:base]) else Words(text)
    if _LOGIC.search(text) and not _SAYS_WHICH.search(text):
        return Words(plain_words(_LOGIC.sub(lambda found: " and " if found[0] in ("\\land", "\\wedge") else " or ", text)))
    pieces = pieces_of(text)
    if pieces is not None:
        return _in_pieces(pieces)
    if text[:1] == "(" and _ENUMERATED.match(text):
        return Words(plain_words(text))
    if " " in text and _SENTENCE.fullmatch(text) and any(word not in KNOWN_WORDS for word in _LONG_WORD.findall(text)):
        return Words(plain_words(text))
    try:
        return _answer(tokenize(text))
    except NotMath:
        return _of_letters(text) or _named_value(text) or Words(plain_words(text))


def _in_pieces(pieces: Pieces) -> Form:
    """A function in pieces, under its name where it has one."""
    check_count(len(pieces.rows), MAX_ITEMS, "max_items")
    cases = Collection("cases", tuple(Collection("tuple", (_read(value), _read(condition))) for value, condition in pieces.rows))
    return Relation((_read(pieces.name), cases), ("=",)) if pieces.name else cases


def _named_value(text: str) -> Form | None:
    r"""`\|v\| = 5`, `\int_0^1 x dx = \frac12`: what is beyond the grammar, and the value that it is said to have."""
    name, said = name_and_value(text)
    try:
        value = _answer(tokenize(said)) if name else None
    except NotMath:
        return None
    return Relation((Words(with_small_words(name)), value), ("=",)) if isinstance(value, Value) else None


_LETTERS_TOGETHER = re.compile(
    r"(?<![A-Za-z\\{])[a-zA-Z]{4,6}(?![A-Za-z])|(?<=\d)[a-zA-Z]{4,6}(?![A-Za-z])|(?<=\{)[a-zA-Z]{4,6}(?=\s*[-+*/^])"
)


def _of_letters(text: str) -> Form | None:
    """A formula in which four to six letters are multiplied, as `\\frac{2mghr^2}{5}`; None for what is none."""
    if not ("\\frac" in text or "^" in text or "\\sqrt" in text) or "\\text" in text:
        return None
    spread = _LETTERS_TOGETHER.sub(lambda found: found[0] if found[0] in KNOWN_WORDS else " ".join(found[0]), text)
    if spread == text:
        return None
    try:
        return _answer(tokenize(spread))
    except NotMath:
        return None


# ---- structure -------------------------------------------------------------------------------------------------------


def _is_comma(token: Token) -> bool:
    return token.kind == "comma"


_STRUCTURAL = frozenset({"comma", "mod", "relation", "setop"})


def _answer(tokens: Sequence[Token]) -> Form:
    if tokens and not any(token.kind in _STRUCTURAL for token in tokens):
        return _unit(tokens)
    parts, cuts = split(tokens, _is_comma)
    # `1, 2, and 3`: the comma before the word is part of it.
    kept = [index for index, part in enumerate(parts) if part or not (index and index < len(cuts) and cuts[index].text in ("or", "and"))]
    parts = [parts[index] for index in kept]
    if len(parts) == 1:
        return _item(parts[0])
    if any(token == _OTHER_SIGN for token in tokens):
        return _plus_minus(tokens, _answer)  # the signs of all parts go together
    first = split(parts[0], _is_naming)
    if len(first[0]) == 2 and not any(split(part, _is_relation)[1] for part in parts[1:]):
        # `n = 1, 2, 3`: the name belongs to the whole list.
        name = _side(first[0][0])
        return Relation((name, Collection("list", _items([first[0][1], *parts[1:]]))), (first[1][0].text,))
    grouped = _solutions(tokens, cuts)
    if grouped is not None:
        return grouped
    kind = next((word for word in ("and", "or") if any(cut.text == word for cut in cuts)), "list")
    return _joined(_items(parts), kind)


def _solutions(tokens: Sequence[Token], cuts: Sequence[Token]) -> Form | None:
    """`x = 1, y = 2 or x = 2, y = 1` and `x = 1, y = 2; x = 2, y = 1` as a list of pairs."""
    between = {cut.text for cut in cuts} & {"or", ";"}
    if len(between) != 1 or len({cut.text for cut in cuts}) == 1:
        return None
    groups, _ = split(tokens, lambda token: token.kind == "comma" and token.text in between)
    if len(groups) < 2 or not all(any(map(_is_comma, group)) for group in groups):
        return None
    pairs = [named_values(_answer(group), False) for group in groups]
    if not all(isinstance(pair, Collection) and pair.kind == "tuple" for pair in pairs):
        return None
    return Collection("list", tuple(pairs))


def _items(parts: Sequence[Sequence[Token]]) -> tuple[Form, ...]:
    items: list[Form] = []
    for part in parts:
        item = _item(part)
        items.extend(item.items if isinstance(item, Collection) and item.kind == "list" else [item])
    return tuple(items)


def _is_choice(form: Form) -> bool:
    return isinstance(form, Value) and isinstance(form.expression, Variable) and form.expression.name in "ABCDE"


def _joined(items: tuple[Form, ...], kind: str) -> Form:
    """A bare list; inequalities joined by `and` or `or` are of other kinds, as they say how they hold."""
    if kind != "list" and any(map(_is_inequality, items)):
        return Collection(kind, items)
    if kind == "or" and (speaks_of_several(items) or all(map(_is_choice, items))):
        return Collection("either", items)  # `a = 0 or b = 0` is no pair, `A or B` not both
    return Collection("list", items)


def _is_inequality(form: Form) -> bool:
    """Whether it is one, or several of them that are joined."""
    if isinstance(form, Collection):
        return form.kind in ("and", "or")
    return isinstance(form, Relation) and form.operators != ("=",)


def _is_mod(token: Token) -> bool:
    return token.kind == "mod"


def _congruence(left: Sequence[Token], modulus: Sequence[Token]) -> Congruence:
    r"""`7 \bmod 12` and `x \equiv 7 \pmod{12}`."""
    sides, operators = split(left, _is_relation)
    if len(sides) > 2 or any(operator.text not in ("equiv", "=") for operator in operators):
        raise NotMath("several congruences")
    return Congruence(read_expression(sides[-1]), read_expression(modulus))


def _is_naming(token: Token) -> bool:
    return token in (("relation", "="), ("relation", "!="))


def _is_relation(token: Token) -> bool:
    return token.kind == "relation"


def _is_setop(token: Token) -> bool:
    return token.kind == "setop"


def _item(tokens: Sequence[Token]) -> Form:
    if tokens and tokens[-1].kind == "number":  # the commonest items, read without ceremony
        if len(tokens) == 1:
            return Value(number_of(tokens[0].text))
        if len(tokens) == 2 and tokens[0] == ("op", "-"):
            return Value(Number(-number_of(tokens[1].text).value))
    kinds = {token.kind for token in tokens}
    if "mod" in kinds:
        parts, mods = split(tokens, _is_mod)
        if len(mods) == 1:
            return _congruence(parts[0], parts[1])
    sides, operators = split(tokens, _is_relation) if "relation" in kinds else ([tokens], [])
    if len(sides) == 1:
        return _side(tokens) if "setop" in kinds else _unit(tokens)
    names = tuple(operator.text for operator in operators)
    return Relation((_named_side(sides[0], names), *(_side(side) for side in sides[1:])), names)


def _named_side(tokens: Sequence[Token], operators: tuple[str, ...]) -> Form:
    r"""The first side; that of an equation may be a name beyond the grammar, as `P(X = 2)` or `\det A`."""
    try:
        return _side(tokens)
    except NotMath:
        if set(operators) != {"="} or not tokens:
            raise
        return Words(with_small_words(" ".join(token.text for token in tokens)))


def _side(tokens: Sequence[Token]) -> Form:
    parts, operators = split(tokens, _is_setop)
    if len(parts) == 1:
        return _unit(tokens)
    if len({operator.text for operator in operators}) > 1:
        raise NotMath("mixed set operations")
    sets = tuple(_unit(part) for part in parts)
    if operators[0].text == "\\setminus" and isinstance(sets[0], Value) and not isinstance(sets[0].expression, Variable):
        raise NotMath("a number is no set")
    if operators[0].text == "\\cup" and all(isinstance(each, Collection) and each.kind == "set" for each in sets):
        items = [item for each in sets if isinstance(each, Collection) for item in each.items]
        if len(set(items)) == len(items):
            return Collection("set", tuple(items))
    return SetOperation(operators[0].text, sets)


_TEXT_ALONE = {"text"}
_OF_A_CLOCK = re.compile("[0-5][0-9]")  # minutes or seconds: `6:00` is no `3:00`
_COLON = Token("op", ":")


def _is_colon(token: Token) -> bool:
    return token == _COLON


def _unit(tokens: Sequence[Token]) -> Form:
    if not tokens:
        raise NotMath("nothing")
    if len(tokens) == 1 and tokens[0].kind == "named":
        return Named(tokens[0].text)
    kinds = {token.kind for token in tokens}
    if kinds == _TEXT_ALONE:
        return Words(plain_words(" ".join(token.text for token in tokens)))
    if ("end" in kinds or "comma" in kinds) and (computed := read_arrays(tokens)) is not None:
        return computed
    if "end" in kinds and holds_matrix(tokens):
        return read_matrix(tokens)
    if "pm" in kinds and tokens[0].text != "\\{":  # `\{0, \pm 1\}` is one set
        return _plus_minus(tokens, _unit)
    collection = _bracketed(tokens)
    if collection is not None:
        return collection
    if "pm" in kinds:
        return _plus_minus(tokens, _unit)
    ratio, cuts = split(tokens, _is_colon) if _COLON in tokens else ([], [])
    if cuts:
        minutes = [part[0].text if part else "" for part in ratio[1:]]
        clock = all(map(_OF_A_CLOCK.fullmatch, minutes)) and (len(minutes) == 1 or any(text[0] == "0" for text in minutes))
        return Collection("clock" if clock else "ratio", tuple(read_quantity(part) for part in ratio))
    return read_quantity(tokens)


def _bracketed(tokens: Sequence[Token]) -> Form | None:
    """A tuple, list, set or interval, if one pair of brackets holds all of the tokens and a comma."""
    if tokens[0].kind != "open" or tokens[-1].kind != "close" or not closes_last(tokens):
        return None
    inside, brackets = tokens[1:-1], tokens[0].text + tokens[-1].text
    if not inside:
        return Collection("set", ()) if brackets == "\\{\\}" else None
    parts, cuts = split(inside, _is_comma)
    if brackets == "{}":
        return _answer(inside)
    if not cuts:
        if brackets == "()" and any(map(_is_relation, inside)):
            return _item(inside)
        return Collection("set", _items([inside])) if brackets == "\\{\\}" else None
    items = _items(parts)
    words = {cut.text for cut in cuts}
    if brackets == "()" and (words == {"or"} or (words <= {"and", "or"} and any(map(_is_inequality, items)))):
        return _joined(items, "and" if "and" in words else "or")  # `(x > 1 and x < 2) or x > 5`; `(a = 1 and b = 2)` is a pair
    if brackets == "\\{\\}":
        return Collection("set", items)
    if brackets in ("[)", "(]"):
        if len(items) != 2 or not all(isinstance(item, Value) for item in items):
            raise NotMath("not an interval")
        return Interval(_plain(items[0]), _plain(items[1]), (brackets[0] == "[", brackets[1] == "]"))
    return Collection("tuple" if brackets == "()" else "bracket", items)


def _plain(form: Form) -> Expression:
    if not isinstance(form, Value) or form.unit:
        raise NotMath("not a plain value")
    return form.expression


_OTHER_SIGN = Token("pm", "mp")


def _plus_minus(tokens: Sequence[Token], read: Callable[[Sequence[Token]], Form]) -> Form:
    r"""`a \pm b` is the list of its two readings; several signs go together."""

    def resolved(upper: bool) -> list[Token]:
        return [Token("op", "+" if (token.text == "pm") == upper else "-") if token.kind == "pm" else token for token in tokens]

    return Collection("list", (read(resolved(True)), read(resolved(False))))
