"""The typed tree that an answer is read into. Pure data; `render` gives the normal form that people see."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

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
    """Several things. `kind`: `tuple` in round brackets, `list` bare, `bracket` in square ones, `set` in braces, `ratio` with
    colons, `and` inequalities that hold at once, `or` those of which one does."""

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

_BRACKETS = {"tuple": "()", "bracket": "[]", "set": "{}", "list": ("", ""), "and": ("", ""), "or": ("", ""), "ratio": ("", "")}


def render(form: Form | Expression) -> str:
    """The normal form as text, for people and as a key: equal texts are equal trees."""
    if type(form) is Value and type(form.expression) is Number and not form.unit:
        return form.word or str(form.expression.value)
    match form:
        case Number(value):
            return str(value.numerator) if value.denominator == 1 else str(value)
        case Constant(name) | Variable(name) | Named(name):
            return name
        case Sum(terms):
            return "(" + " + ".join(map(render, terms)) + ")"
        case Product(factors):
            return "*".join(map(render, factors))
        case Power(base, exponent):
            return f"({render(base)})^({render(exponent)})"
        case Apply(name, arguments):
            return f"{name}({', '.join(map(render, arguments))})"
        case _:
            return _render_answer(form)


def _render_answer(form: Form | Expression) -> str:
    match form:
        case Value(expression, unit, word):
            return word or render(expression) + (f" {unit}" if unit else "")
        case Based(digits, base):
            return f"{digits}_{base}"
        case Collection(kind, items):
            left, right = _BRACKETS[kind]
            return left + {"ratio": ":", "and": " and ", "or": " or "}.get(kind, ", ").join(map(render, items)) + right
        case Interval(low, high, (low_closed, high_closed)):
            return f"{'[' if low_closed else '('}{render(low)}, {render(high)}{']' if high_closed else ')'}"
        case SetOperation(operator, parts):
            return f" {operator} ".join(map(render, parts))
        case Relation(sides, operators):
            tail = "".join(f" {operator} {render(side)}" for operator, side in zip(operators, sides[1:], strict=True))
            return render(sides[0]) + tail
        case Matrix(rows, bars):
            body = "; ".join(", ".join(map(render, row)) for row in rows)
            return f"|{body}|" if bars else f"[{body}]"
        case Congruence(residue, modulus):
            return f"{render(residue)} mod {render(modulus)}"
        case Words(text):
            return f'"{text}"'
    raise TypeError(type(form).__name__)
