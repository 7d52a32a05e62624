"""The typed tree that an answer is read into. Pure data; `render` gives the normal form that people see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

# ---- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number; decimals are the fractions that they write."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Constant:
    """One of `pi e i oo deg`."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A letter, with its subscript and primes."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Terms added."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Factors multiplied."""

    factors: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Power:
    """Base to exponent; an odd root of a negative number is the real one."""

    base: Expression
    exponent: Expression


@dataclass(frozen=True, slots=True)
class Apply:
    """A named function of arguments."""

    name: str
    arguments: tuple[Expression, ...]


Expression = Number | Constant | Variable | Sum | Product | Power | Apply

# ---- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """An expression with the unit that was written after it ("" for none, "%" for percent).

    `word`: the letters as they were written, where nothing but letters was written and they may be a short word (`yes`, `AAS`).
    """

    expression: Expression
    unit: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a stated base."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Collection:
    """Several things.

    `kind`: `tuple` in round brackets, `list` bare, `bracket` in square ones, `set` in braces, `ratio` with colons, `clock` with two digits
    behind each colon, `cases` of values with their conditions, `and` inequalities that hold at once, `or` those of which one does, `either`
    equations of several names of which one does.
    """

    kind: str
    items: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A range with its ends; `closed` says for the low and the high end whether it belongs to it."""

    low: Expression
    high: Expression
    closed: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class SetOperation:
    r"""Sets joined by one of `\cup \cap \setminus`."""

    operator: str
    parts: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    r"""A chain of sides joined by `= < > \le \ge \neq \in`, as written."""

    sides: tuple[Form, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of expressions; `bars` marks a determinant."""

    rows: tuple[tuple[Expression, ...], ...]
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Congruence:
    r"""A residue and its modulus: `7 \pmod{12}`."""

    residue: Expression
    modulus: Expression


@dataclass(frozen=True, slots=True)
class Named:
    r"""A set with a name: `\mathbb{R}`, `\emptyset`."""

    name: str


@dataclass(frozen=True, slots=True)
class Words:
    """Plain text, normalised."""

    text: str


Form = Value | Based | Collection | Interval | SetOperation | Relation | Matrix | Congruence | Named | Words

_BRACKETS = {
    "tuple": "()",
    "bracket": "[]",
    "set": "{}",
    "list": ("", ""),
    "and": ("", ""),
    "or": ("", ""),
    "ratio": ("", ""),
    "clock": ("", ""),
    "cases": ("", ""),
    "either": ("", ""),
}
_JOINING = {"ratio": ":", "clock": ":", "cases": "; ", "and": " and ", "or": " or ", "either": " or "}


def render(form: Form | Expression) -> str:
    """The normal form as text, for people and as a key: equal texts are equal trees."""
    return _RENDERERS[type(form)](form)


def _sum(form: Sum) -> str:
    return "(" + " + ".join([_RENDERERS[type(term)](term) for term in form.terms]) + ")"


def _product(form: Product) -> str:
    return "*".join([_RENDERERS[type(factor)](factor) for factor in form.factors])


def _power(form: Power) -> str:
    return f"({render(form.base)})^({render(form.exponent)})"


def _apply(form: Apply) -> str:
    return f"{form.name}({', '.join(map(render, form.arguments))})"


def _value(form: Value) -> str:
    if form.word:
        return form.word
    return f"{render(form.expression)} {form.unit}" if form.unit else render(form.expression)


def _collection(form: Collection) -> str:
    left, right = _BRACKETS[form.kind]
    return left + _JOINING.get(form.kind, ", ").join(map(render, form.items)) + right


def _interval(form: Interval) -> str:
    low_closed, high_closed = form.closed
    return f"{'[' if low_closed else '('}{render(form.low)}, {render(form.high)}{']' if high_closed else ')'}"


def _relation(form: Relation) -> str:
    tail = "".join([f" {operator} {render(side)}" for operator, side in zip(form.operators, form.sides[1:], strict=True)])
    return render(form.sides[0]) + tail


def _matrix(form: Matrix) -> str:
    body = "; ".join([", ".join(map(render, row)) for row in form.rows])
    return f"|{body}|" if form.bars else f"[{body}]"


def _named(form: Constant | Variable | Named) -> str:
    return form.name


_RENDERERS: Mapping[type, Callable[[Any], str]] = {
    Number: lambda form: str(form.value),
    Constant: _named,
    Variable: _named,
    Named: _named,
    Sum: _sum,
    Product: _product,
    Power: _power,
    Apply: _apply,
    Value: _value,
    Based: lambda form: f"{form.digits}_{form.base}",
    Collection: _collection,
    Interval: _interval,
    SetOperation: lambda form: f" {form.operator} ".join(map(render, form.parts)),
    Relation: _relation,
    Matrix: _matrix,
    Congruence: lambda form: f"{render(form.residue)} mod {render(form.modulus)}",
    Words: lambda form: f'"{form.text}"',
}
