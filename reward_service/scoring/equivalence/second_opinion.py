r"""SymPy and math-verify as the last resort. May not end: runs under a worker's deadline.

Found by reading math-verify 0.9.0, latex2sympy2-extended 1.11.0 and SymPy 1.14:

- `math_verify.parse` with `ExprExtractionConfig` calls `sympy.parse_expr` on the text, which evaluates it; with a fallback mode it
  returns bare strings, which `verify` compares as strings. Its unit pattern strips `t`, `m`, `c`, `h` and so reads `2t` as 2. Its time
  limits are `signal.alarm`. None of this is used: we call `latex2sympy` and `verify` alone.
- `latex2sympy` builds trees from an ANTLR grammar, but its numbers go through `sympy.Number(str)`, which calls `sympify`, which
  evaluates; the text there is digits only by grammar. `convert_number` and `variable_values` do the same. `_Reader` reads numbers
  as exact rationals instead, and `no_text_evaluation` makes SymPy's text reader raise for as long as a stage here runs.
- Its traps: symbols are lowercased (`X` equals `x`), a base suffix is dropped (`25_6` is 25), `2(3)` and `2 3` are mixed numbers (5),
  `\gamma` is Euler's constant, `\operatorname{zeros}(10^9)` and its like allocate. Only the commands of `_COMMANDS` pass.
- `verify` rounds floats to six places, chops small differences to zero, unwraps `x = 5`, takes a set for a tuple and an open interval
  for a pair, sorts, and compares unparsed strings. It sees single expressions without commas and relations only, without floats, and
  what it calls equal counts only where numbers do not refute it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import MAX_CHARS_BEYOND, MAX_SIGNS_BEYOND, MAX_SYMPY_EXPONENT, MAX_SYMPY_FACTORIAL

_COMMANDS = frozenset(
    "frac sqrt int sum prod lim infty pi to rightarrow sin cos tan cot sec csc ln log exp cdot times left right theta alpha beta lambda mu "
    "sigma phi omega partial binom".split()
)
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)")
_PLAIN = re.compile(r"[0-9A-Za-z+\-*/^_=(){}|!. \\]*")
_UNREADABLE = re.compile(r"\d_|\d\s*\(|\d\s+\d|\.\d*\.")  # what that grammar reads in its own way


@contextlib.contextmanager
def no_text_evaluation() -> Iterator[None]:
    """While this is active, SymPy turns no text into an expression: its one way to `eval` raises."""
    from sympy.parsing import sympy_parser

    readers: Any = sympy_parser
    saved = readers.parse_expr, readers.eval_expr

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("text is never evaluated")

    readers.parse_expr = readers.eval_expr = refuse
    try:
        yield
    finally:
        readers.parse_expr, readers.eval_expr = saved


class Deferred(Exception):
    """SymPy is needed, and must not be loaded here."""


_DEFERRED: ContextVar[bool] = ContextVar("deferred", default=False)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While this is active, whatever needs SymPy raises `Deferred`."""
    token = _DEFERRED.set(True)
    try:
        yield
    finally:
        _DEFERRED.reset(token)


def _refuse_where_deferred() -> None:
    if _DEFERRED.get():
        raise Deferred


def simplifies_to_zero(one: Expression, other: Expression) -> bool | None:
    """Whether SymPy finds the difference to be zero: yes, no, or it does not know.

    Raises:
        Deferred: not here.
    """
    _refuse_where_deferred()
    import sympy

    with no_text_evaluation():
        try:
            difference = _to_sympy(one) - _to_sympy(other)
            if difference.is_zero is not None and not difference.free_symbols:
                return bool(difference.is_zero)
            if difference.has(sympy.log):
                _bounded(difference, MAX_SYMPY_EXPONENT)  # what stands before a logarithm becomes a power within it
            denested = sympy.sqrtdenest(difference)
            return True if denested.is_zero or sympy.simplify(denested).is_zero else None
        except _SYMPY_ERRORS:
            return None


# SymPy raises these and more from its depths on valid input; they are no finding. RecursionError and MemoryError end the item.
_SYMPY_ERRORS = (ArithmeticError, AttributeError, KeyError, IndexError, NotImplementedError, TypeError, ValueError)


def _to_sympy(expression: Expression) -> Any:
    import sympy

    match expression:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Constant(name):
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo, "deg": sympy.pi / 180}[name]
        case Variable(name):
            return sympy.Symbol(name, real=True)
        case Sum(terms):
            return sympy.Add(*map(_to_sympy, terms))
        case Product(factors):
            return sympy.Mul(*map(_to_sympy, factors))
        case Power(Number(base), Number(exponent)) if base < 0 and exponent.denominator % 2:
            root = sympy.Pow(sympy.Rational(-base.numerator, base.denominator), sympy.Rational(exponent.numerator, exponent.denominator))
            return -root if exponent.numerator % 2 else root
        case Power(base_tree, exponent_tree):
            return sympy.Pow(_to_sympy(base_tree), _bounded(_to_sympy(exponent_tree), MAX_SYMPY_EXPONENT))
        case Apply("factorial" | "binomial" as name, arguments):
            parts = [_bounded(_to_sympy(argument), MAX_SYMPY_FACTORIAL) for argument in arguments]
            if not all(part.is_Integer or part.free_symbols for part in parts):
                raise ValueError("the gamma function between whole numbers")  # minutes
            return _function(name)(*parts)
        case Apply(name, arguments):
            parts = list(map(_to_sympy, arguments))
            if name in ("gcd", "lcm") and any(part.free_symbols for part in parts):
                raise ValueError("SymPy takes names for polynomials, whose greatest common divisor is 1")
            return _function(name)(*parts)


def _bounded(tree: Any, limit: int) -> Any:
    """The tree, if none of its numbers is beyond the limit.

    Raises:
        ValueError: one is.
    """
    import sympy

    numbers = tree.atoms(sympy.Rational)
    if any(max(abs(number.p), number.q) > limit for number in numbers) or (tree.is_number and not abs(tree.evalf()) <= limit):
        raise ValueError("a number too big to be worked with")
    return tree


def _function(name: str) -> Any:
    import sympy

    names = {
        "abs": sympy.Abs, "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "arcsec": sympy.asec,
        "arccsc": sympy.acsc, "sgn": sympy.sign, "max": sympy.Max, "min": sympy.Min, "ceiling": sympy.ceiling,
        "gcd": sympy.gcd, "lcm": sympy.lcm,
    }  # fmt: skip
    plain = "sin cos tan cot sec csc sinh cosh tanh coth log floor factorial binomial re im".split()
    if name in names:
        return names[name]
    return getattr(sympy, name) if name in plain else sympy.Function(name)


def math_verify_agrees(gold: str, answer: str) -> bool:
    r"""What math-verify says of two texts beyond our own grammar: integrals, sums, limits (`\int_0^1 x dx` against `\frac{1}{2}`).

    Raises:
        Deferred: not here.
    """
    if not _is_beyond(gold, answer) or not (_readable(gold) and _readable(answer)):
        return False
    _refuse_where_deferred()
    import math_verify

    with no_text_evaluation():
        try:
            trees = [_from_both_sides(_read(text), text) for text in (gold, answer)]
            digits = _agreeing_digits(*trees)
            if digits == _MANY_DIGITS and not any(tree.free_symbols for tree in trees):
                return True
            return digits > 0 and bool(math_verify.verify(trees[0], trees[1], float_rounding=15, timeout_seconds=None))
        except _SYMPY_ERRORS:
            return False


_BEYOND_GRAMMAR = re.compile(r"\\(?:int|sum|prod|lim|partial)(?![A-Za-z])")
# A sum or product up to a bound of five digits or more, or up to a power or factorial, would be worked out term by term.
_FAR_BOUND = re.compile(r"\\(?:sum|prod)[^=]{0,20}=[^\^]{0,40}\^\s*\{?\s*(?:\d{5,}|\d+\s*(?:\^|!|\\cdot\s*\d+\s*\^))")


def _is_beyond(*texts: str) -> bool:
    """Whether one of them has signs that our own grammar has not, and none has too many."""
    found = [len(_BEYOND_GRAMMAR.findall(text)) for text in texts]
    if not sum(found) > 0 or max(found) > MAX_SIGNS_BEYOND or max(map(len, texts)) > MAX_CHARS_BEYOND:
        return False
    return not any(map(_FAR_BOUND.search, texts)) and all(map(_says_over_what, texts))


_DIFFERENTIAL = re.compile(r"d *(?:[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu|sigma|phi|omega)(?![a-zA-Z]))")


def _says_over_what(text: str) -> bool:
    """Whether each integral has its `dx`: the reader would guess it."""
    signs = text.count("\\int")
    return not signs or len(_DIFFERENTIAL.findall(_COMMAND.sub(_kept_letter, text))) >= signs


def _kept_letter(command: re.Match[str]) -> str:
    """Letters stay; no `d` of `\\cdot` is a differential."""
    return command[0] if _DIFFERENTIAL.fullmatch("d" + command[0]) else " "


_ONE_SIDED = re.compile(r"\\(?:to|rightarrow)[^}^]*\^")


def _from_both_sides(tree: Any, text: str) -> Any:
    """The tree with limits from both sides where the text does not say from which: the reader takes the right one."""
    import sympy

    if tree is None or not tree.has(sympy.Limit):
        return tree
    if tree.free_symbols:
        return None  # a derivative as its limit restates the question
    sided = len(_ONE_SIDED.findall(text))
    if sided:
        return tree if sided == text.count("\\lim") else None
    limits = {limit: sympy.limit(*limit.args[:3], dir="+-") for limit in tree.atoms(sympy.Limit) if limit.args[2].is_finite}
    return tree.xreplace(limits)


def _readable(text: str) -> bool:
    commands = {match[1] for match in _COMMAND.finditer(text)}
    return bool(_PLAIN.fullmatch(text)) and commands <= _COMMANDS and not _UNREADABLE.search(text)


def _read(text: str) -> Any | None:
    if not _readable(text):
        return None
    with no_text_evaluation():
        try:
            return _reader().parse(text)
        except Exception:  # noqa: BLE001
            # The generated grammar raises bare Exception for whatever it does not know; that is "unreadable", never a verdict of its own.
            return None


def _reader() -> Any:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    return _reader_class()(is_real=True, config=ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False))


@functools.lru_cache(maxsize=1)
def _reader_class() -> Any:
    import sympy
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class Reader(_Latex2Sympy):  # type: ignore[misc]
        """The LaTeX reader with exact numbers, read without SymPy's text reader."""

        def parse_number(self, text: str) -> Any:
            value = Fraction(text.replace(",", ""))
            return sympy.Rational(value.numerator, value.denominator)

    return Reader


def _agreeing_digits(gold: Any, answer: Any) -> int:
    """To how many digits both have the same value at fixed points; without numbers there is no agreement."""
    import sympy

    if not all(isinstance(tree, sympy.Expr) for tree in (gold, answer)):
        return 0
    agreed = _MANY_DIGITS
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    counting = _in_bounds(gold) | _in_bounds(answer)
    if any(
        bound.is_infinite
        for tree in (gold, answer)
        for product in tree.atoms(sympy.Product)
        for _, *ends in product.limits
        for bound in ends
    ):
        return False  # SymPy takes minutes over them
    for shift in (0, 1):
        point = {
            symbol: sympy.Integer(4 + 2 * index + shift) if symbol in counting else sympy.Rational(17 + 6 * index + shift, 13)
            for index, symbol in enumerate(symbols)
        }
        values = [tree.subs(point).doit() for tree in (gold, answer)]
        if all(value.is_Rational for value in values):
            if values[0] != values[1]:
                return 0
            continue
        digits = _FEW_DIGITS if any(value.has(*_unevaluated()) for value in values) else _MANY_DIGITS
        if any(map(_may_hide, values)):
            return 0
        agreed = min(agreed, digits)
        left, right = (value.evalf(digits + 10) for value in values)
        tolerance = sympy.Float(10, digits) ** -digits
        if not (left.is_number and right.is_number) or not abs(left - right) <= tolerance * (1 + abs(left)):
            return 0
    return agreed


def _in_bounds(tree: Any) -> set[Any]:
    """The symbols in bounds of sums and products, which stand for whole numbers: SymPy does not end with others."""
    import sympy

    ends = (end for each in tree.atoms(sympy.Sum, sympy.Product) for _, *bounds in each.limits for end in bounds)
    return {symbol for end in ends for symbol in end.free_symbols}


_FEW_DIGITS, _MANY_DIGITS = 30, 400
_MAX_BITS = 1_000  # of a number in a value that is compared by its digits
_MAX_POWER = 300  # of a number there


def _may_hide(value: Any) -> bool:
    """Whether numbers in it may make less of a difference than the digits show, as `e^{-10000}` or the last term of a long sum."""
    import sympy

    if any(max(number.p.bit_length(), number.q.bit_length()) > _MAX_BITS for number in value.atoms(sympy.Rational)):
        return True
    exponents = [power.as_base_exp()[1] for power in value.atoms(sympy.Pow, sympy.exp)]
    return any(exponent.is_number and not abs(exponent.evalf()) <= _MAX_POWER for exponent in exponents)


def _unevaluated() -> tuple[Any, ...]:
    """What SymPy works out by sampling, where more digits take long."""
    import sympy

    return sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit
