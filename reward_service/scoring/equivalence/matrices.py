r"""Matrices in all their environments, with brackets around them and factors before them."""

from __future__ import annotations

from collections.abc import Sequence

from reward_service.scoring.equivalence.expressions import MINUS_ONE, read_expression
from reward_service.scoring.equivalence.forms import Expression, Matrix, Product
from reward_service.scoring.equivalence.limits import MAX_ITEMS, check_count
from reward_service.scoring.equivalence.tokens import NotMath, Token, closes_last, split

_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "vmatrix"})


_OPENING = {"(": ")", "[": "]"}


def holds_matrix(tokens: Sequence[Token]) -> bool:
    """Whether it ends as a matrix does: with its environment, or with a bracket around that."""
    tokens = tokens[: -_transposing(tokens)] if _transposing(tokens) else tokens
    return tokens[-1].kind == "end" or (len(tokens) > 2 and tokens[-2].kind == "end" and tokens[-1].kind == "close")


def read_matrix(tokens: Sequence[Token]) -> Matrix:
    r"""`\begin{pmatrix} .. \end{pmatrix}`, `(\begin{array} .. \end{array})`, or a factor before one of them.

    Raises:
        NotMath: it is none of these.
        LimitExceeded: too many cells.
    """
    if transposing := _transposing(tokens):
        matrix = read_matrix(tokens[:-transposing])
        return Matrix(tuple(zip(*matrix.rows, strict=True)), matrix.bars)
    start = next((index for index, token in enumerate(tokens) if token.kind == "begin"), 0)
    if start and tokens[start - 1].text in _OPENING and tokens[-1].text == _OPENING[tokens[start - 1].text]:
        factor, inside = tokens[: start - 1], tokens[start:-1]
    else:
        factor, inside = tokens[:start], tokens[start:]
    matrix = environment(inside)
    if not factor:
        return matrix
    if matrix.bars:
        raise NotMath("a factor of a determinant")
    if factor[-1] == ("op", "*"):
        factor = factor[:-1]
    times = MINUS_ONE if list(factor) == [("op", "-")] else read_expression(factor)
    return Matrix(tuple(tuple(_times(times, cell) for cell in row) for row in matrix.rows))


def _transposing(tokens: Sequence[Token]) -> int:
    """How many tokens at the end say that the matrix before them is to be turned: `^T`, `^{T}`; 0 for none."""
    for tail in _TRANSPOSING:
        if len(tokens) > len(tail) + 1 and list(tokens[-len(tail) :]) == tail and tokens[-len(tail) - 1].kind in ("end", "close"):
            return len(tail)
    return 0


_TRANSPOSING = [
    [Token("op", "^"), *around]
    for mark in (Token("letter", "T"), Token("text", "T"))
    for around in ([mark], [Token("open", "{"), mark, Token("close", "}")])
]


def _times(factor: Expression, cell: Expression) -> Expression:
    return Product((factor, cell))


def environment(tokens: Sequence[Token]) -> Matrix:
    """The matrix between the marks of its environment.

    Raises:
        NotMath: it is none.
        LimitExceeded: too many cells.
    """
    if tokens[0].text not in _MATRICES or tokens[-1] != ("end", tokens[0].text) or not closes_last(tokens):
        raise NotMath("not a matrix")
    inside = tokens[1:-1]
    if tokens[0].text == "array" and inside and inside[0].text == "{":
        inside = inside[next(index for index, token in enumerate(inside) if token.text == "}") + 1 :]
    lines, _ = split(inside, lambda token: token == ("op", "\\\\"))
    if not lines[-1]:
        lines = lines[:-1]
    rows = tuple(tuple(read_expression(cell) for cell in split(line, lambda token: token == ("op", "&"))[0]) for line in lines)
    if not rows or len({len(row) for row in rows}) != 1:
        raise NotMath("ragged matrix")
    check_count(len(rows) * len(rows[0]), MAX_ITEMS, "max_items")
    return Matrix(rows, bars=tokens[0].text == "vmatrix")
