"""Are two matrices equal, or a matrix and a vector in brackets?"""

from __future__ import annotations

from collections.abc import Callable

from reward_service.scoring.equivalence.equality import Finding, same_expressions
from reward_service.scoring.equivalence.expressions import MINUS_ONE
from reward_service.scoring.equivalence.forms import Collection, Expression, Form, Matrix, Product, Sum, Value

Equal = Callable[[Form, Form], bool]


def _as_matrix(form: Form) -> Form:
    """`[[1, 2], [3, 4]]` as the matrix of its rows, if it is one."""
    if not isinstance(form, Collection) or form.kind != "bracket":
        return form
    rows = [
        tuple(cell.expression for cell in row.items if isinstance(cell, Value) and not cell.unit)
        for row in form.items
        if isinstance(row, Collection) and row.kind == "bracket"
    ]
    sizes = {len(row.items) for row in form.items if isinstance(row, Collection)}
    return Matrix(tuple(rows)) if len(rows) == len(form.items) and {len(row) for row in rows} == sizes and len(sizes) == 1 else form


_MAX_ROWS = 3  # of a determinant that is worked out


def _determinant(rows: tuple[tuple[Expression, ...], ...]) -> Expression | None:
    size = len(rows)
    if size > _MAX_ROWS or len(rows[0]) != size:
        return None
    if size == 1:
        return rows[0][0]
    terms: list[Expression] = []
    for column in range(size):
        minor = _determinant(tuple(row[:column] + row[column + 1 :] for row in rows[1:]))
        if minor is None:
            return None
        term = Product((rows[0][column], minor))
        terms.append(Product((MINUS_ONE, term)) if column % 2 else term)
    return Sum(tuple(terms))


def same_matrices(gold: Form, answer: Form, equal: Equal) -> Finding:
    """Matrices entry by entry; a column as the vector of its entries."""
    gold, answer = _as_matrix(gold), _as_matrix(answer)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        shapes = [(len(matrix.rows), len(matrix.rows[0]), matrix.bars) for matrix in (gold, answer)]
        if shapes[0] != shapes[1]:
            return Finding(False, "shapes_differ")
        pairs = [(left, right) for rows in zip(gold.rows, answer.rows, strict=True) for left, right in zip(*rows, strict=True)]
        return Finding(all(same_expressions(left, right).equal for left, right in pairs), "matrix")
    matrix, other = (gold, answer) if isinstance(gold, Matrix) else (answer, gold)
    if isinstance(matrix, Matrix) and matrix.bars and isinstance(other, Value):
        determinant = _determinant(matrix.rows)
        same = determinant is not None and equal(*((Value(determinant), other) if matrix is gold else (other, Value(determinant))))
        return Finding(same, "determinant")
    if (
        not isinstance(matrix, Matrix)
        or matrix.bars
        or len(matrix.rows[0]) != 1
        or not isinstance(other, Collection)
        or other.kind not in ("tuple", "bracket", "list")
    ):
        return Finding(False, "kinds_differ")
    cells = [Value(row[0]) for row in matrix.rows]
    same = len(cells) == len(other.items) and all(equal(cell, item) for cell, item in zip(cells, other.items, strict=True))
    return Finding(same, "vector_as_tuple")
