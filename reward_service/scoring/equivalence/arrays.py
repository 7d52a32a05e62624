r"""Arithmetic with tuples and matrices: `(1,0) + t(2,1)`, `2(1,2,3)`, sums and products of matrices and their small powers.

What is worked out is the array of the results, entry by entry; everything is bounded before it is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reward_service.scoring.equivalence.expressions import MINUS_ONE, read_expression
from reward_service.scoring.equivalence.forms import Apply, Collection, Expression, Form, Matrix, Number, Power, Product, Sum, Value
from reward_service.scoring.equivalence.limits import MAX_ITEMS, check_count
from reward_service.scoring.equivalence.matrices import environment, read_matrix
from reward_service.scoring.equivalence.tokens import NotMath, Token, closes_last, split

_Rows = tuple[tuple[Expression, ...], ...]
_ONE = Number(Fraction(1))
_MAX_PARTS = 2_000  # of all entries of a result together
_MAX_BITS = 2_000  # of a number in it
_MAX_POWER = 6
_MAX_ARRAYS = 12
_DET = Token("text", "det")
_TIMES = Token("op", "*")
# Other letters before brackets are functions, points or distributions: `f(1, 2)`, `P(1, 2)`, `B(n, p)`.
_FACTORS = frozenset("a b c k m n r s t alpha beta lambda mu nu".split())
_MARKS_BEFORE_SIGN = frozenset({"^", "*", "/", "_"})


@dataclass(frozen=True, slots=True)
class _Array:
    rows: _Rows
    is_tuple: bool


def read_arrays(tokens: Sequence[Token]) -> Form | None:
    """The tuple or matrix that sums, multiples and products of several amount to; None for what holds no such arithmetic.

    Raises:
        NotMath: it is arithmetic that has no value: of other shapes, or of arrays with numbers.
        LimitExceeded: too many entries.
    """
    if tokens[0] == _DET and tokens[-1].kind in ("end", "close") and any(token.kind == "begin" for token in tokens):
        return Matrix(read_matrix(tokens[1:]).rows, bars=True)
    if tokens[0].kind in ("open", "begin") and closes_last(tokens):
        return None
    terms = _terms(tokens)
    if not all(any(isinstance(part, _Array) for part in term) for _, term in terms):
        return None
    if len(terms) == 1 and not _is_arithmetic(*terms[0]):
        return None
    total: _Array | None = None
    for sign, term in terms:
        array = _product(term)
        array = array if sign == "+" else _multiple(MINUS_ONE, array)
        total = array if total is None else _added(total, array)
    if total is None:
        return None
    if total.is_tuple:
        return Collection("tuple", tuple(map(Value, total.rows[0])))
    return Matrix(total.rows)


_Part = _Array | Token | int | str  # an array, a token of a scalar, a power, or "T" for turned


def _is_arithmetic(sign: str, term: list[_Part]) -> bool:
    """Whether there is more than one matrix with a factor, which is read elsewhere."""
    arrays = [part for part in term if isinstance(part, _Array)]
    return len(arrays) > 1 or any(isinstance(part, int) for part in term) or (arrays[0].is_tuple and (len(term) > 1 or sign == "-"))


def _terms(tokens: Sequence[Token]) -> list[tuple[str, list[_Part]]]:
    found: list[tuple[str, list[_Part]]] = [("+", [])]
    at = arrays = 0
    while at < len(tokens):
        token = tokens[at]
        part = found[-1][1]
        if token.kind == "op" and token.text in "+-" and not (at and tokens[at - 1].text in _MARKS_BEFORE_SIGN):
            found[-1:] = [(token.text, [])] if at == 0 else [found[-1], (token.text, [])]
            at += 1
        elif token.kind in ("open", "begin"):
            end = _closing(tokens, at)
            array = _array(tokens[at:end], tokens[at - 1] if at else None)
            arrays += array is not None
            check_count(arrays, _MAX_ARRAYS, "max_items")
            part.extend([array] if array is not None else tokens[at:end])
            at = end
        elif token == ("op", "^") and part and isinstance(part[-1], _Array):
            mark, at = _power(tokens, at + 1)
            part.append(mark)
        else:
            part.append(token)
            at += 1
    return found


def _closing(tokens: Sequence[Token], start: int) -> int:
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index].kind in ("open", "begin")) - (tokens[index].kind in ("close", "end"))
        if depth == 0:
            return index + 1
    raise NotMath("never closed")


def _array(tokens: Sequence[Token], before: Token | None) -> _Array | None:
    """What stands in one pair of brackets, or between the marks of an environment, if it is an array."""
    if tokens[0].kind == "begin":
        matrix = environment(tokens)
        if matrix.bars:
            raise NotMath("arithmetic with a determinant")
        return _Array(matrix.rows, False)
    inside, brackets = tokens[1:-1], (tokens[0].text, tokens[-1].text)
    if not inside or brackets not in (("(", ")"), ("[", "]")):
        return None
    if inside[0].kind == "begin" and closes_last(inside):
        return _array(inside, None)
    parts, cuts = split(inside, lambda token: token.kind == "comma")
    if not cuts:
        inner = read_arrays(inside) if any(token.kind in ("begin", "comma") for token in inside) else None
        if isinstance(inner, Matrix):
            return _Array(inner.rows, False)
        return _Array((tuple(_entry(item) for item in inner.items),), True) if isinstance(inner, Collection) else None
    if brackets != ("(", ")") or any(cut.text != "," for cut in cuts) or (before is not None and _is_applied(before)):
        return None
    return _Array((tuple(map(read_expression, parts)),), True)


def _is_applied(before: Token) -> bool:
    """Whether what stands before brackets makes arguments of their entries."""
    if before.kind == "letter":
        return before.text not in _FACTORS
    return before.kind in ("function", "text", "run", "constant", "command") or before.text in ("_", "^", "'")


def _entry(item: Form) -> Expression:
    if not isinstance(item, Value):
        raise NotMath("not a number")
    return item.expression


def _power(tokens: Sequence[Token], at: int) -> tuple[_Part, int]:
    """The whole power behind an array, or that it is to be turned; and where the text goes on."""
    braced = at < len(tokens) and tokens[at].text == "{"
    at += braced
    end = at + 1 + braced
    if end > len(tokens) or (braced and tokens[end - 1].text != "}"):
        raise NotMath("a power of an array")
    if tokens[at].text == "T":
        return "T", end
    if tokens[at].kind != "number" or not tokens[at].text.isdigit() or len(tokens[at].text) > 1:
        raise NotMath("a power of an array")
    check_count(int(tokens[at].text), _MAX_POWER, "max_exponent")
    return int(tokens[at].text), end


def _product(term: list[_Part]) -> _Array:
    """The factors of a term multiplied: scalars first, arrays, and a quotient or product with a scalar behind them."""
    first = next(index for index, part in enumerate(term) if isinstance(part, _Array))
    before: list[Token] = [part for part in term[:first] if isinstance(part, Token)]
    if before and before[-1] == _TIMES:
        before = before[:-1]
    result: _Array | None = None
    factor: _Array | None = None
    rest: list[Token] = []
    for part in term[first:]:
        if isinstance(part, Token):
            rest.append(part)
            continue
        if rest and rest != [_TIMES]:
            raise NotMath("a scalar between arrays")
        rest = []
        if isinstance(part, _Array):
            result = factor if result is None else _multiplied(result, factor or part)
            factor = part
        elif factor is not None:
            factor = _turned(factor) if part == "T" else _raised(factor, int(part))
    if factor is None:
        raise NotMath("no array")
    result = factor if result is None else _multiplied(result, factor)
    if rest:
        if rest[0] not in (_TIMES, ("op", "/")):
            raise NotMath("a scalar behind an array")
        result = _multiple(read_expression([Token("number", "1"), *rest]), result)
    return _multiple(read_expression(before), result) if before else result


def _turned(array: _Array) -> _Array:
    if array.is_tuple:
        raise NotMath("a tuple has no rows")
    return _Array(tuple(zip(*array.rows, strict=True)), False)


def _raised(array: _Array, power: int) -> _Array:
    if power < 1:
        raise NotMath("not a power of a matrix")
    result = array
    for _ in range(power - 1):
        result = _multiplied(result, array)
    return result


def _multiplied(one: _Array, other: _Array) -> _Array:
    if one.is_tuple or other.is_tuple or len(one.rows[0]) != len(other.rows):
        raise NotMath("arrays that have no product")
    check_count(len(one.rows) * len(other.rows[0]), MAX_ITEMS, "max_items")
    columns = list(zip(*other.rows, strict=True))
    return _bounded(_Array(tuple(tuple(_scalar_product(row, column) for column in columns) for row in one.rows), False))


def _scalar_product(row: Sequence[Expression], column: Sequence[Expression]) -> Expression:
    return _sum([_times(left, right) for left, right in zip(row, column, strict=True)])


def _multiple(factor: Expression, array: _Array) -> _Array:
    return _bounded(_Array(tuple(tuple(_times(factor, cell) for cell in row) for row in array.rows), array.is_tuple))


def _added(one: _Array, other: _Array) -> _Array:
    if one.is_tuple != other.is_tuple or [len(row) for row in one.rows] != [len(row) for row in other.rows]:
        raise NotMath("arrays of other shapes")
    rows = (zip(left, right, strict=True) for left, right in zip(one.rows, other.rows, strict=True))
    return _bounded(_Array(tuple(tuple(_sum(list(pair)) for pair in row) for row in rows), one.is_tuple))


def _times(one: Expression, other: Expression) -> Expression:
    if isinstance(one, Number) and isinstance(other, Number):
        return Number(one.value * other.value)
    return other if one == _ONE else Product((one, other))


def _sum(terms: list[Expression]) -> Expression:
    numbers = [term.value for term in terms if isinstance(term, Number)]
    others: list[Expression] = [term for term in terms if not isinstance(term, Number)]
    if numbers and (sum(numbers) or not others):
        others.append(Number(sum(numbers, Fraction(0))))
    return others[0] if len(others) == 1 else Sum(tuple(others))


def _bounded(array: _Array) -> _Array:
    """The array, unless it has grown too big to be compared."""
    left = _MAX_PARTS
    for row in array.rows:
        for cell in row:
            left = _left(cell, left)
    return array


def _left(expression: Expression, left: int) -> int:
    """How many parts may still come; stops as soon as there are too many."""
    check_count(1 - left, 0, "max_products")
    match expression:
        case Number(value):
            check_count(value.numerator.bit_length() + value.denominator.bit_length(), _MAX_BITS, "max_power_bits")
        case Sum(parts) | Product(parts) | Apply(_, parts):
            for part in parts:
                left = _left(part, left)
        case Power(base, exponent):
            left = _left(exponent, _left(base, left))
    return left - 1
